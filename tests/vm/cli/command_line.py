"""The command `pykata` as a user types it, with run and data directories of the test's own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.linux_mount import read_mountinfo
from host.process_identity import ProcessIdentity
from host.state import Sandbox, SandboxStore

# A boot under emulation takes 10 s on an idle machine; tests must also pass on a busy one.
PATIENCE_S = 280.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    output: bytes
    errors: str


@dataclass(frozen=True, slots=True)
class CommandLine:
    """`pykata` below one directory; `booted` counts the VMs for the report."""

    directory: Path
    rootfs: Path
    booted: Callable[[], None]

    @property
    def store(self) -> SandboxStore:
        """The sandboxes of this command line."""
        return SandboxStore(self.directory / "run")

    def start(
        self, *words: str, stdin: int = subprocess.PIPE, stdout: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """Start a command and leave it running."""
        if words[0] == "run":
            self.booted()
        directories = {
            "PYKATA_RUN_DIR": str(self.directory / "run"),
            "PYKATA_DATA_DIR": str(self.directory / "data"),
        }
        command = [str(Path(sys.executable).with_name("pykata")), *words]
        return subprocess.Popen(
            command, env=os.environ | directories, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
        )

    def __call__(self, *words: str, typed: bytes = b"") -> Ended:
        """Run a command to its end."""
        process = self.start(*words)
        output, errors = process.communicate(typed, timeout=PATIENCE_S)
        return Ended(process.returncode, output, errors.decode(errors="replace"))

    def background(self, name: str, *options: str, command: tuple[str, ...] = ("sleep", "1000")) -> Sandbox:
        """Start a detached sandbox."""
        ended = self("run", "-d", "--name", name, *options, str(self.rootfs), "--", *command)
        assert ended.status == 0, ended.errors
        return self.store.find(name)

    def inspect(self, name: str) -> dict[str, Any]:
        """What `pykata inspect` says of one sandbox."""
        document: list[dict[str, Any]] = json.loads(self("inspect", name).output)
        return document[0]

    def left(self, processes: list[ProcessIdentity]) -> list[str]:
        """What is left of the sandboxes: files, mounts, and those of `processes` that live."""
        run = self.directory / "run"
        files = [str(path) for path in run.rglob("*")] if run.exists() else []
        mounts = [entry.mount_point for entry in read_mountinfo() if str(run) in entry.mount_point]
        # Whoever has let go of the sandbox still has a moment of its own to end.
        alive = [f"process {process.pid}" for process in processes if not process.ends_within(2)]
        return files + mounts + alive


def tree_hash(root: Path) -> str:
    """One hash over names, kinds, modes, owners, times and contents of a directory tree."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        facts = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_nlink)
        total.update(repr((str(path.relative_to(root)), facts)).encode())
        if path.is_symlink():
            total.update(os.readlink(path).encode())
        elif path.is_file():
            total.update(path.read_bytes())
    return total.hexdigest()
