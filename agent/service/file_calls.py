"""Files that the host pushes into the guest."""

from __future__ import annotations

import stat

from agent.errors import InvalidRequest
from agent.service.agent import Agent
from agent.service.requests import CopyFile
from agent.service.rules import Rules
from agent.storage.copied_files import Attributes, Destination, Piece

_PERMISSIONS = 0o777
_KEEP = -1  # chown(2): leave the owner as it is
_ID_BITS = 32


async def copy_file(agent: Agent, request: CopyFile, rules: Rules) -> None:
    """Take a directory, a link, or a piece of a file; with its last piece the file appears.

    What is sent says of which kind it is by the type bits of its mode, inode(7). Hosts send Go's own
    directory bit in `dir_mode`; only permission bits count there.

    Raises InvalidRequest before anything is touched; KernelRefused.
    """
    destination = Destination.parse(rules.copies.root, request.path)
    uid, gid = _owner(request.uid), _owner(request.gid)
    attributes = Attributes(request.file_mode & rules.copies.mode_bits, uid, gid)
    parents = Attributes(request.dir_mode & _PERMISSIONS)
    if rules.copies.owner_gets_parents:
        parents = Attributes(parents.mode, uid, gid)
    match stat.S_IFMT(request.file_mode):
        case stat.S_IFDIR:
            await agent.copied_files.make_directory(destination, attributes, parents=parents)
        case stat.S_IFLNK:
            await agent.copied_files.make_link(destination, request.data, attributes, parents=parents)
        case 0 | stat.S_IFREG:
            piece = Piece(request.offset, request.data, request.file_size)
            await agent.copied_files.write(destination, piece, attributes, parents=parents)
        case kind:
            raise InvalidRequest(f"{destination}: no files of type {kind:#o} are copied, such as devices")


def _owner(number: int) -> int:
    """A user or group: the wire's signed 32 bits are the kernel's unsigned ones, but for -1."""
    return number if number == _KEEP else number % (1 << _ID_BITS)
