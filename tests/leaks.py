"""What a run of the tests may leave behind on the machine: nothing.

A `Footprint` is a picture of everything the project can leave: processes, mounts, loop devices, bound
sockets, cgroups and files. Two pictures are compared by what the later one has more of.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, fields
from pathlib import Path

# Every process that a run starts inherits this, however often it is handed to another parent.
RUN_MARK = "PYKATA_TEST_RUN"
# Where the project keeps its files while it works; names below a shared directory carry its mark.
DIRECTORIES = (
    "/run/kata-containers",
    "/run/kata-agent",
    "/run/pykata",
    "/run/sandbox-ns",
    "/run/libcontainer",
)
MARKED = (("/tmp", "pykata"), ("/var/tmp", "pykata"), ("/run", "pykata"), ("/dev/shm", "pykata"))


@dataclass(frozen=True, slots=True)
class Footprint:
    """Each field maps what was found to a set of lines a person can act on."""

    processes: frozenset[str]
    mounts: frozenset[str]
    loop_devices: frozenset[str]
    sockets: frozenset[str]
    cgroups: frozenset[str]
    files: frozenset[str]

    @classmethod
    def take(cls) -> Footprint:
        """Look at the machine as it is now."""
        return cls(
            processes=frozenset(_processes()),
            mounts=frozenset(_mounts()),
            loop_devices=frozenset(_loop_devices()),
            sockets=frozenset(_sockets()),
            cgroups=frozenset(_cgroups()),
            files=frozenset(_files()),
        )

    def leaks_since(self, before: Footprint) -> dict[str, list[str]]:
        """What this picture has that `before` had not, by kind; empty when nothing was left."""
        grown = {
            field.name: sorted(getattr(self, field.name) - getattr(before, field.name))
            for field in fields(self)
        }
        return {kind: found for kind, found in grown.items() if found}


def lasting_leaks(before: Footprint, *, patience_s: float = 30.0) -> dict[str, list[str]]:
    """What has come since `before` and stays: seen in every look for `patience_s` seconds.

    Another run on the same machine has mounts, sockets and cgroups of its own, which come and go.
    """
    deadline = time.monotonic() + patience_s
    leaks = Footprint.take().leaks_since(before)
    while leaks and time.monotonic() < deadline:
        time.sleep(0.5)  # there is no one event for all of these
        now = Footprint.take().leaks_since(before)
        kept = {kind: [item for item in found if item in now.get(kind, ())] for kind, found in leaks.items()}
        leaks = {kind: found for kind, found in kept.items() if found}
    if "processes" in leaks:
        leaks["processes"] = _with_commands(leaks["processes"])
    return leaks


def _processes() -> list[str]:
    """Processes, zombies too, that this run started: by their parent, or by the mark they inherited.

    Each by its pid and start time, since its name and arguments change with execve(2).
    """
    mark = f"{RUN_MARK}={os.environ.get(RUN_MARK, '')}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            marked = mark in (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended while we looked
            continue
        parent, started = int(fields[1]), fields[19]  # proc_pid_stat(5), from the third field on
        if marked or parent == os.getpid():
            found.append(f"{entry.name} since {started}")
    return found


def _with_commands(processes: list[str]) -> list[str]:
    """The same with their names and arguments, for the reader of a report."""
    described = []
    for process in processes:
        directory = Path("/proc", process.split()[0])
        try:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            described.append(f"{process}: {(directory / 'comm').read_text().strip()} {command}".strip())
        except OSError:
            described.append(f"{process}: ended while it was looked at")
    return described


def _mounts() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _loop_devices() -> list[str]:
    """Loop devices over files of this root, deleted ones included."""
    found = []
    for attribute in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing = attribute.read_text().strip()
        except OSError:  # detached while we looked
            continue
        if os.path.exists(backing) or backing.endswith(" (deleted)"):
            found.append(f"/dev/{attribute.parts[3]} {backing}")
    return found


def _sockets() -> list[str]:
    """Bound unix sockets of ours that can be reached: by a file of this root, or an abstract name."""
    names = (line.split()[7:] for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return [
        name[0]
        for name in names
        if name and "kata" in name[0] and (name[0].startswith("@") or os.path.exists(name[0]))
    ]


def _cgroups() -> list[str]:
    root = Path("/sys/fs/cgroup")
    return [parent for parent, _, _ in os.walk(root)]


def _files() -> list[str]:
    found = [
        os.path.join(parent, name)
        for directory in DIRECTORIES
        for parent, directories, names in os.walk(directory)
        for name in directories + names
    ]
    for directory, mark in MARKED:
        found += [str(path) for path in Path(directory).glob(f"{mark}*")]
    return found
