"""A storage's files given to a group, as a Kubernetes fsGroup asks."""

from __future__ import annotations

import contextlib
import os
import stat

from agent.linux.paths import fd_path, visit_tree
from agent.storage.handler import FsGroup

_READ_ONLY_BITS = 0o440
_READ_WRITE_BITS = 0o660
_DIRECTORY_BITS = 0o110
_SETGID = stat.S_ISGID  # so that what is made in a directory later belongs to the group as well


def give_to_group(top: int, group: FsGroup, *, read_only: bool) -> None:
    """Give the tree at the O_PATH descriptor `top` to `group`; permission bits are only added.

    With `only_on_root_mismatch` nothing is touched if `top` itself is as it should be already: on a
    large volume the walk takes long. Links and what is mounted in the tree are left alone.
    Raises OSError.
    """
    bits = _READ_ONLY_BITS if read_only else _READ_WRITE_BITS
    if group.only_on_root_mismatch and _is_given(os.fstat(top), group.group_id, bits):
        return

    def give(directory: int, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                _give(entry, group.group_id, bits)
            finally:
                os.close(entry)

    visit_tree(top, on_file=give, on_directory=give)
    _give(top, group.group_id, bits)


def _is_given(status: os.stat_result, gid: int, bits: int) -> bool:
    wanted = bits | _DIRECTORY_BITS | _SETGID
    return status.st_gid == gid and status.st_mode & wanted == wanted


def _give(entry: int, gid: int, bits: int) -> None:
    status = os.fstat(entry)
    if stat.S_ISLNK(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        bits |= _DIRECTORY_BITS | _SETGID
    os.chown(fd_path(entry), -1, gid)
    os.chmod(fd_path(entry), stat.S_IMODE(status.st_mode) | bits)
