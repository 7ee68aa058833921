"""The container's output on disk: pieces tagged with their stream and time, bounded in size.

A record is one byte (the stream, as in `monitor_protocol.FrameKind`), a big-endian 64-bit time in
nanoseconds since the epoch, a 32-bit length and the bytes themselves: raw, since output need not be
text. When `output.log` has reached the limit it becomes `output.log.1` and a new one begins, so the
last 16 to 32 MiB of output are kept. Run directories often lie in memory; docker's unbounded default
has filled many disks.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from host.monitor_protocol import FrameKind

RECORD = struct.Struct(">BQI")
LIMIT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One piece of output."""

    stream: FrameKind
    time_ns: int
    data: bytes


def older(path: Path) -> Path:
    """Where the part before `path` lies."""
    return path.with_name(path.name + ".1")


def read_log(path: Path) -> Iterator[LogRecord]:
    """All records that are kept, the oldest first; a record cut short by a crash ends the log."""
    for part in (older(path), path):
        try:
            with part.open("rb") as file:
                yield from _records(file)
        except FileNotFoundError:
            continue


def _records(file: BinaryIO) -> Iterator[LogRecord]:
    while len(header := file.read(RECORD.size)) == RECORD.size:
        stream, time_ns, length = RECORD.unpack(header)
        data = file.read(length)
        if len(data) < length:
            file.seek(-RECORD.size - len(data), 1)
            return
        yield LogRecord(FrameKind(stream), time_ns, data)


class OutputLog:
    """The writing end, owned by the monitor, which also lets others follow."""

    def __init__(self, path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self._path = path
        self._limit = limit_bytes
        self._file = path.open("ab", buffering=0)
        self._generation = 0  # how often the log has been turned over
        self._grown = asyncio.Condition()
        self._closed = False

    async def append(self, stream: FrameKind, data: bytes) -> None:
        """Add a piece and wake all that follow."""
        if self._file.tell() >= self._limit:
            self._turn_over()
        self._file.write(RECORD.pack(stream, time.time_ns(), len(data)) + data)
        await self._notify()

    async def close(self) -> None:
        """No more will come; followers end once they have seen all."""
        self._closed = True
        self._file.close()
        await self._notify()

    async def follow(self) -> AsyncIterator[LogRecord]:
        """All records kept so far, then each new one, until `close`.

        A follower never slows the container: if it falls behind by more than the log keeps, it goes
        on with the oldest that is left.
        """
        generation = max(self._generation - 1, 0)
        while True:
            source = self._path if generation == self._generation else older(self._path)
            with source.open("rb") as file:
                while True:
                    for record in _records(file):
                        yield record
                    if generation < self._generation:
                        break
                    if self._closed:
                        return
                    seen = file.tell()
                    async with self._grown:
                        await self._grown.wait_for(lambda: self._moved(generation, seen))  # noqa: B023
            generation = max(generation + 1, self._generation - 1)

    def _moved(self, generation: int, seen: int) -> bool:
        return self._closed or generation < self._generation or self._path.stat().st_size > seen

    def _turn_over(self) -> None:
        self._file.close()
        self._path.replace(older(self._path))
        self._file = self._path.open("ab", buffering=0)
        self._generation += 1

    async def _notify(self) -> None:
        async with self._grown:
            self._grown.notify_all()
