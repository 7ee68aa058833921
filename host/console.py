"""The agent's debug console as a client sees it: a shell on a terminal in the guest, over vsock."""

from __future__ import annotations

import asyncio
import re
import secrets
import shlex

from host.addresses import parse_address
from host.errors import HostError
from host.foreground import STDIN, STDOUT, read_piece, write_all
from host.terminal import DetachKeys, raw_mode, window_of

_CHUNK_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 10.0


async def connect_console(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a guest's debug console. Raises HostError if nobody answers."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await asyncio.open_connection(sock=await parse_address(address).open(), limit=2**24)
    except (OSError, ValueError, TimeoutError) as error:
        raise HostError(
            f"the guest's console does not answer at {address} ({error})", "is the VM still running?"
        ) from error


async def run_shell(address: str) -> int:
    """Join the user's terminal to a shell in the guest until it ends or the user detaches."""
    reader, writer = await connect_console(address)
    if size := window_of(STDIN):
        # The wire carries no window size; the leading blank keeps the line out of a shell's history.
        writer.write(f" stty rows {size.rows} columns {size.columns}\n".encode())
    with raw_mode(STDIN):
        tasks = [asyncio.create_task(_show(reader)), asyncio.create_task(_type(writer))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            next(task for task in tasks if task.done()).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
    return 0


async def run_command(
    address: str, command: tuple[str, ...], *, timeout_s: float = 60.0
) -> tuple[int, bytes]:
    """Run one command in the guest; its exit status and all it wrote, on either stream.

    Raises HostError if the console goes away or the command takes longer than `timeout_s` seconds.
    """
    reader, writer = await connect_console(address)
    mark = secrets.token_hex(8)
    # The marks are put together by the shell, so the echo of the line does not contain them.
    script = (
        f"stty -echo -onlcr; printf '%s%s\\n' begin- {mark}; {shlex.join(command)}; "
        f"printf '%s%s-%d\\n' end- {mark} $?; exit\n"
    )
    writer.write(script.encode())
    try:
        async with asyncio.timeout(timeout_s):
            shown = await reader.read()
    except TimeoutError as error:
        raise HostError(f"{shlex.join(command)} did not end within {timeout_s:g} s in the guest") from error
    finally:
        writer.close()
    pattern = rb"begin-%b\r?\n(.*)end-%b-(\d+)" % (mark.encode(), mark.encode())
    match = re.search(pattern, shown, re.DOTALL)
    if match is None:
        raise HostError("the guest's console closed before the command had ended", "is the VM still running?")
    return int(match[2]), match[1]


async def _show(reader: asyncio.StreamReader) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        await write_all(STDOUT, data)


async def _type(writer: asyncio.StreamWriter) -> None:
    """Pass what is typed on; a pipe's end is the end of the shell."""
    keys = DetachKeys()
    while data := await read_piece(STDIN):
        passed, detach = keys.filter(data)
        writer.write(passed)
        await writer.drain()
        if detach:
            return
    writer.write(b"\x04")  # Ctrl-D: the shell leaves once it has read everything
    await writer.drain()
    await asyncio.get_running_loop().create_future()
