"""A shell in the guest, through the agent's debug console: for tests to look at what really is there."""

from __future__ import annotations

import asyncio
import re
from typing import Self

_ANSWER_TIMEOUT_S = 30.0


class GuestShell:
    """One connection to the debug console. It is a terminal, so its echo is switched off first."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str) -> Self:
        """Connect to `hvsock://PATH:PORT`. Raises ConnectionError if nobody answers there."""
        path, _, port = address.removeprefix("hvsock://").rpartition(":")
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(f"CONNECT {port}\n".encode())
        answer = await reader.readline()
        if not answer.startswith(b"OK"):
            writer.close()
            raise ConnectionError(f"{address} answered {answer!r}")
        shell = cls(reader, writer)
        await shell.run("stty -echo 2>/dev/null; PS1= PS2=")
        return shell

    async def run(self, command: str) -> str:
        """What `command` prints, without the last newline. Raises AssertionError if it fails."""
        # The marks are computed, so that an echo of the command does not look like its end.
        script = f"echo BE$((40+2))GIN; {command}\necho EN$((40+2))D $?\n"
        self._writer.write(script.encode())
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            text = (await self._reader.readuntil(b"EN42D ") + await self._reader.readline()).decode()
        found = re.search(r"BE42GIN\n(.*?)EN42D (\d+)", text.replace("\r", ""), re.DOTALL)
        assert found, f"no answer to {command!r} in {text!r}"
        assert found[2] == "0", f"{command!r} exited with {found[2]}: {found[1]}"
        return found[1].strip()

    async def close(self) -> None:
        """End the shell."""
        self._writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
