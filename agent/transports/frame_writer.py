"""Puts frames on a transport, whole and in turn, without a copy of a large one.

asyncio copies what it cannot send at once, all of it, into a buffer of its own. So a large frame
is handed over in slices, the next one when the last has gone: what is copied is a slice at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

# About what a socket takes at once (net.core.wmem_default is 208 KiB).
_SLICE_BYTES = 128 << 10

# With so much waiting to be sent, the peer is taken for one that does not read.
_FULL_BYTES = 4 << 20


class FrameWriter:
    """The outgoing side of one connection. `pause` and `resume` come from its protocol."""

    def __init__(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(high=0)  # pause at the first byte that has to wait
        self._transport = transport
        self._queue: deque[bytes | memoryview] = deque()
        self._queued_bytes = 0
        self._paused = False
        self._closing = False
        self._room = asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Wait while the peer does not read what it has been sent."""
        while not self._room.is_set():
            await self._room.wait()

    def write(self, frame: Sequence[bytes]) -> None:
        """Send the pieces of one frame, after those that wait already.

        Never blocks; beyond a limit no more is read from the peer until it has read in turn.
        """
        size = sum(map(len, frame))
        if size <= _SLICE_BYTES:
            self._queue.append(b"".join(frame))
        else:
            for part in frame:
                piece = memoryview(part)
                self._queue.extend(piece[at : at + _SLICE_BYTES] for at in range(0, len(part), _SLICE_BYTES))
        self._queued_bytes += size
        self._flush()
        if self._queued_bytes >= _FULL_BYTES:
            self._room.clear()
            self._transport.pause_reading()

    def pause(self) -> None:
        """The transport has more than it can send."""
        self._paused = True

    def resume(self) -> None:
        """The transport has sent all it had."""
        self._paused = False
        self._flush()
        if self._queued_bytes < _FULL_BYTES and not self._room.is_set():
            self._room.set()
            self._transport.resume_reading()

    def close(self) -> None:
        """Read no more, send what waits, then close the transport."""
        self._closing = True
        self._transport.pause_reading()
        self._flush()

    def _flush(self) -> None:
        while self._queue and not self._paused:
            piece = self._queue.popleft()
            self._queued_bytes -= len(piece)
            self._transport.write(piece)
        if self._closing and not self._queue:
            self._transport.close()
