"""Bind mounts with all their bookkeeping: what is made for one is also what goes with it.

The steps and the texts of the errors are those of Kata's host side (virtcontainers/mount.go of
Kata 1.x), except that here a bind mount that fails at any step leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from host.errors import HostError, InvalidInput
from host.linux_mount import (
    MountFlag,
    mount,
    mounts_below,
    read_mountinfo,
    remount_read_only,
    set_propagation,
    unmount,
)

MOUNT_POINT_MODE = 0o755

# `ubind` is the word of Kata 1.x for what mount(8) calls unbindable.
PROPAGATION_FLAGS = {
    "shared": MountFlag.SHARED,
    "private": MountFlag.PRIVATE,
    "slave": MountFlag.SLAVE,
    "ubind": MountFlag.UNBINDABLE,
    "unbindable": MountFlag.UNBINDABLE,
}


@dataclass(slots=True)
class BindMount:
    """A bind mount that exists, with the files and directories that were made to carry it."""

    destination: Path
    made: list[Path] = field(default_factory=list)  # outermost first
    released: bool = False

    def release(self) -> None:
        """Unmount, and remove what was made for the mount point. Safe to call twice.

        Raises HostError if the kernel refuses; a later call tries again.
        """
        if not self.released:
            unmount_path(self.destination)
            _remove_made(self.made)
            self.released = True


def bind_mount(
    source: str | Path, destination: str | Path, *, read_only: bool = False, propagation: str = "private"
) -> BindMount:
    """Make `source` (a file or directory, symlinks resolved) appear at `destination`.

    The mount point is made, mode 0755, as a file or directory to match; mounts beneath `source`
    do not come along. `propagation` is one of PROPAGATION_FLAGS and applies to the new mount.
    Raises HostError; nothing is left of a mount that failed.
    """
    flag = _propagation_flag(propagation)
    if not os.fspath(source):
        raise InvalidInput("source must be specified")
    if not os.fspath(destination):
        raise InvalidInput("destination must be specified")
    origin = _resolved(source)
    target = Path(destination)
    with contextlib.ExitStack() as undo:
        made = _make_mount_point(origin, target, undo)
        with _refusal(f"Could not bind mount {origin} to {target}"):
            mount(origin, target, "bind", MountFlag.BIND)
        undo.callback(unmount_path, target)
        with _refusal(f"Could not make the mount at {target} {propagation}"):
            set_propagation(target, flag)
        if read_only:
            make_read_only(target)
        undo.pop_all()
    return BindMount(target, made)


def make_read_only(target: Path) -> None:
    """Make the mount at `target` read-only, and only this one: its copies keep their own state.

    Raises HostError.
    """
    with _refusal(f"Could not make the mount at {target} read-only"):
        remount_read_only(target)


def unmount_path(target: Path) -> None:
    """Unmount `target` lazily, never through a symlink; nothing mounted there is no error.

    Raises HostError: `target` or its directory is a symlink, or the kernel refuses.
    """
    for path in (target.parent, target):
        if path.is_symlink():  # lstat: whoever put it there wants another path unmounted
            raise HostError(f"{path} is a symlink", "refusing to unmount through it")
    try:
        unmount(target)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):  # EINVAL: not a mount point
            raise HostError(f"Could not unmount {target}: {error.strerror}") from error


def unmount_below(directory: Path) -> None:
    """Unmount all that is mounted at or beneath `directory`, whoever mounted it, newest first.

    Needs no memory of what was mounted, so it also clears up after a process that was killed.
    Raises HostError.
    """
    for entry in mounts_below(Path(os.path.realpath(directory)), read_mountinfo()):
        unmount_path(Path(entry.mount_point))


def remove_mount_point(target: Path) -> None:
    """Remove an emptied mount point: an empty file or directory. What has content stays.

    Raises HostError if the kernel refuses.
    """
    with _refusal(f"Could not remove the mount point {target}"), contextlib.suppress(FileNotFoundError):
        status = target.lstat()
        if stat.S_ISDIR(status.st_mode):
            _remove_if_empty(target)
        elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
            target.unlink()


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise


def _propagation_flag(word: str) -> MountFlag:
    try:
        return PROPAGATION_FLAGS[word]
    except KeyError:
        raise InvalidInput(f"Wrong propagation type {word}") from None


def _resolved(source: str | Path) -> Path:
    try:
        return Path(source).resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symlinks, on Python 3.11
        raise HostError(f"Could not resolve symlink for source {source}", "it must exist") from error


def _make_mount_point(origin: Path, target: Path, undo: contextlib.ExitStack) -> list[Path]:
    """Make `target` and the directories above it, as far as they are missing; push their removal."""
    if target.is_symlink():
        raise HostError(f"the mount point {target} is a symlink", "remove it")
    made: list[Path] = []
    undo.callback(_remove_made, made)
    with _refusal(f"Could not create destination mount point {target}"):
        for directory in reversed(target.parents):
            _make(directory, made, is_directory=True)
        _make(target, made, is_directory=origin.is_dir())
    return made


def _make(path: Path, made: list[Path], *, is_directory: bool) -> None:
    with contextlib.suppress(FileExistsError):
        if is_directory:
            path.mkdir(mode=MOUNT_POINT_MODE)
        else:
            path.touch(mode=MOUNT_POINT_MODE, exist_ok=False)
        made.append(path)


def _remove_made(made: list[Path]) -> None:
    """Remove what was made, innermost first; a directory that others have begun to use stays."""
    while made:
        remove_mount_point(made[-1])
        made.pop()


@contextlib.contextmanager
def _refusal(what: str) -> Iterator[None]:
    """Turn the kernel's refusal into one sentence that begins with `what`."""
    try:
        yield
    except OSError as error:
        raise HostError(f"{what}: {error.strerror or error}") from error
