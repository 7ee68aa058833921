"""Files given to a guest that shares no directory with the host: copied, piece by piece."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import BinaryIO

from host.agent_messages import AgentCalls
from host.container_config import Mount
from host.errors import HostError
from host.share import GUEST_SHARED_DIR, needs_sharing, shared_name

PIECE_BYTES = 1 << 20  # Kata's; a message may have 4 MiB

# 0750 for the directories above, as Go's os.FileMode writes it: its bit for "directory" is part of
# what Kata's hosts send (virtcontainers/kata_agent.go, copyFile).
_DIRECTORY_MODE = 0x8000_0000 | 0o750


async def copy_files_to_guest(
    client: AgentCalls, container_id: str, mounts: Iterable[Mount]
) -> dict[str, str]:
    """Copy the files that are sources of bind mounts into the guest.

    Returns where each destination's file is found there. A change on either side is not seen on the
    other. Raises HostError for a source that is no regular file, AgentCallError.
    """
    places = {}
    for entry in mounts:
        if needs_sharing(entry):
            place = GUEST_SHARED_DIR + shared_name(container_id, entry.destination)
            await _copy(client, entry.source, place)
            places[entry.destination] = place
    return places


async def _copy(client: AgentCalls, source: str, place: str) -> None:
    with _opened(source) as file:
        await _send(client, file, os.fstat(file.fileno()), place)


def _opened(source: str) -> BinaryIO:
    try:
        if stat.S_ISREG(os.stat(source).st_mode):  # before it is opened: a FIFO would block
            return open(source, "rb")
    except OSError as error:
        raise HostError(f"{source} cannot be copied into the guest: {error.strerror}") from error
    raise HostError(
        f"{source} cannot be copied into the guest",
        "only a regular file can: the sandbox shares no directory",
    )


async def _send(client: AgentCalls, file: BinaryIO, status: os.stat_result, place: str) -> None:
    """Send the pieces; an empty file is one empty piece. The agent renames it when it is whole."""
    offset = 0
    while offset < status.st_size or offset == 0:
        data = file.read(min(PIECE_BYTES, status.st_size - offset))
        if not data and status.st_size:
            raise HostError(f"{file.name} became shorter while it was copied into the guest", "try again")
        request = client.messages.CopyFileRequest(
            path=place,
            file_size=status.st_size,
            file_mode=status.st_mode,
            dir_mode=_DIRECTORY_MODE,
            uid=status.st_uid,
            gid=status.st_gid,
            offset=offset,
            data=data,
        )
        await client.call("CopyFile", request)
        offset += len(data)
        if not data:
            return
