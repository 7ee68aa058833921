"""Sandboxes on disk, so that a second command finds the first one's VM.

Each sandbox has one directory, `<run>/sandboxes/<id>`. Its monitor holds a flock(2) on that directory
for as long as it lives: the kernel drops it with the last process that holds it, however that died,
so "is it still owned?" never rests on a pid. The record, `sandbox.json`, is replaced whole by
rename(2); after the creation only the owner writes it.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from host.errors import HostError, InvalidInput
from host.json_codec import DocumentError, from_document, to_document
from host.process_identity import ProcessIdentity
from host.run_options import RunOptions

ID_BYTES = 8  # 16 characters: the guest and socket paths that carry the id stay short
RECORD = "sandbox.json"


def run_directory() -> Path:
    """Where sandboxes live while they exist: `$PYKATA_RUN_DIR`, or /run/pykata."""
    return Path(os.environ.get("PYKATA_RUN_DIR") or "/run/pykata")


def data_directory() -> Path:
    """Where volumes and images outlive the machine's next boot: `$PYKATA_DATA_DIR`, or /var/lib/pykata."""
    return Path(os.environ.get("PYKATA_DATA_DIR") or "/var/lib/pykata")


class Phase(enum.StrEnum):
    """How far a sandbox has come."""

    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"  # the command ended; `exit_status` says how
    FAILED = "failed"  # it never started, or its VM died; `error` says why
    DEAD = "dead"  # never written: the monitor was killed before it could say how it ended


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """What is known of a sandbox. Times are seconds since the epoch, 0 where it has not happened."""

    id: str
    name: str
    options: RunOptions
    phase: Phase = Phase.STARTING
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_status: int | None = None
    error: str = ""
    monitor: ProcessIdentity | None = None
    processes: tuple[ProcessIdentity, ...] = ()  # QEMU and its daemons
    agent_address: str = ""
    console_address: str = ""
    accelerator: str = ""


class Sandbox:
    """One sandbox's directory and what lies in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """The sandbox's id, which is also its container's."""
        return self.path.name

    @property
    def socket(self) -> Path:
        """The monitor's unix socket."""
        return self.path / "monitor.sock"

    @property
    def monitor_log(self) -> Path:
        """What the monitor itself has to say: its own log and, if it crashed, the traceback."""
        return self.path / "monitor.log"

    @property
    def output_log(self) -> Path:
        """The container's output (`host/output_log.py`)."""
        return self.path / "output.log"

    def read(self) -> SandboxRecord:
        """The record, with the phase DEAD if the owner went away without a last word.

        Raises HostError when there is none that can be read: a creation was cut short.
        """
        try:
            record = from_document(SandboxRecord, json.loads((self.path / RECORD).read_bytes()))
        except (OSError, ValueError, DocumentError) as error:
            raise HostError(
                f"sandbox {self.id} has no readable record ({error})",
                f"clear it away with `pykata rm -f {self.id}`",
            ) from error
        if record.phase in (Phase.STARTING, Phase.RUNNING) and not self.has_owner():
            # The owner may have finished between the two looks: its last word counts.
            last = from_document(SandboxRecord, json.loads((self.path / RECORD).read_bytes()))
            return last if last.phase != record.phase else replace(record, phase=Phase.DEAD)
        return record

    def write(self, record: SandboxRecord) -> None:
        """Replace the record; a reader sees the old one or the new one, never a part."""
        draft = self.path / f".{RECORD}"
        draft.write_text(json.dumps(to_document(record), indent=1) + "\n")
        draft.replace(self.path / RECORD)

    def has_owner(self) -> bool:
        """Whether a monitor, or a command that is just creating the sandbox, still holds the lock."""
        with contextlib.suppress(FileNotFoundError), _directory_fd(self.path) as fd:
            try:
                # Shared, so that two commands which look at once do not take each other for the owner.
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def wait_for_owner(self) -> None:
        """Block until nobody owns the sandbox any more."""
        with contextlib.suppress(FileNotFoundError), _directory_fd(self.path) as fd:
            fcntl.flock(fd, fcntl.LOCK_SH)


class SandboxStore:
    """All sandboxes below one run directory."""

    def __init__(self, run_dir: Path | None = None) -> None:
        self.run_dir = run_dir or run_directory()
        self.directory = self.run_dir / "sandboxes"

    def create(self, options: RunOptions) -> tuple[Sandbox, int]:
        """Reserve an id and a name; returns the sandbox and the file descriptor that owns it.

        The descriptor is inheritable on purpose: it is handed to the monitor. Raises InvalidInput
        when the name is taken.
        """
        with self._locked():
            self._check_name_is_free(options.name)
            identifier = secrets.token_hex(ID_BYTES)
            sandbox = Sandbox(self.directory / identifier)
            sandbox.path.mkdir(mode=0o700)
            owner = os.open(sandbox.path, os.O_RDONLY | os.O_DIRECTORY)
            os.set_inheritable(owner, True)
            fcntl.flock(owner, fcntl.LOCK_EX)
            name = options.name or identifier
            sandbox.write(SandboxRecord(identifier, name, options, created_at=time.time()))
        return sandbox, owner

    def all(self) -> list[Sandbox]:
        """Every sandbox, the oldest first."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(map(Sandbox, self.directory.iterdir()), key=_created_at)
        return []

    def find(self, reference: str) -> Sandbox:
        """The sandbox with this name, this id, or the only one whose id begins so.

        Raises InvalidInput when there is none or more than one.
        """
        every = self.all()
        for sandbox in every:
            if reference == sandbox.id or reference == _name_of(sandbox):
                return sandbox
        matches = [sandbox for sandbox in every if reference and sandbox.id.startswith(reference)]
        if len(matches) > 1:
            raise InvalidInput(
                f"{reference!r} begins the ids of {len(matches)} sandboxes", "give more of the id"
            )
        if not matches:
            raise InvalidInput(f"there is no sandbox {reference!r}", "`pykata ps -a` lists them all")
        return matches[0]

    def tidy(self) -> None:
        """Remove the run directory itself once nothing is left in it."""
        try:
            with self._locked():
                self.directory.rmdir()
                self.run_dir.rmdir()
        except OSError:  # not empty, or already gone: either way there is nothing to tidy
            return

    def _check_name_is_free(self, name: str) -> None:
        for sandbox in self.all() if name else []:
            if name in (sandbox.id, _name_of(sandbox)):
                raise InvalidInput(
                    f"the name {name} is taken by sandbox {sandbox.id}",
                    f"choose another, or remove that one with `pykata rm {name}`",
                )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the store's lock, a flock on its directory, which is made if it is not there."""
        fd = self._lock()
        try:
            yield
        finally:
            os.close(fd)

    def _lock(self) -> int:
        while True:
            self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            try:
                fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            fcntl.flock(fd, fcntl.LOCK_EX)
            # `tidy` may have removed what we have locked while we waited.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(self.directory)):
                    return fd
            os.close(fd)


@contextlib.contextmanager
def _directory_fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _created_at(sandbox: Sandbox) -> float:
    try:
        return sandbox.read().created_at
    except HostError:
        return 0.0


def _name_of(sandbox: Sandbox) -> str:
    try:
        return sandbox.read().name
    except HostError:
        return ""
