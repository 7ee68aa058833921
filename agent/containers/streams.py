"""A process's standard streams: the agent's ends of pipes and pseudo-terminals, on the event loop.

All descriptors here are non-blocking. The flag belongs to the open file, and the two ends of a pipe
are two open files, so the container's end stays blocking (fcntl(2), pipe(7)).
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from agent.errors import KernelRefused, Unavailable

# What a pipe may grow to without CAP_SYS_RESOURCE (/proc/sys/fs/pipe-max-size, pipe(7)). A reader
# that keeps finding 64 KiB pipes full takes 16 times fewer calls to empty them at this size.
_LARGE_PIPE_BYTES = 1 << 20

# A pseudo-terminal holds 8 KiB on its way and 4 KiB in its line discipline (Linux drivers/tty/pty.c,
# n_tty.c), so this takes all that a process may have left there.
_TERMINAL_BYTES = 1 << 16

# What is carried at once between a stream and a connection: a pipe's default capacity.
_PASSED_BYTES = 1 << 16


class _Stream:
    """A descriptor that one task at a time waits for, and that may be closed meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._turn = asyncio.Lock()
        self._change: asyncio.Future[None] | None = None

    @property
    def descriptor(self) -> int | None:
        """The descriptor while it is open; the stream stays its owner."""
        return self._descriptor

    async def _changed(self, *, writing: bool = False) -> None:
        """Wait until the descriptor is ready, or `_wake` is called."""
        assert self._descriptor is not None
        loop = asyncio.get_running_loop()
        self._change = loop.create_future()
        watch = loop.add_writer if writing else loop.add_reader
        watch(self._descriptor, self._wake)
        try:
            await self._change
        finally:
            self._change = None
            self._unwatch(loop)

    def _wake(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    def _unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._descriptor is not None:
            loop.remove_reader(self._descriptor)
            loop.remove_writer(self._descriptor)

    def _close_descriptor(self) -> None:
        if self._descriptor is not None:
            if self._change is not None:
                self._unwatch(self._change.get_loop())
            os.close(self._descriptor)
            self._descriptor = None


class OutputStream(_Stream):
    """What a process writes: the reading end of its pipe, or the master of its terminal.

    The stream ends when everything written has been read and no more is to come: either every writer
    has closed, or the process itself has exited; a grandchild that keeps the pipe or terminal open
    holds nobody up. What lies in the pipe when the process exits is taken into a buffer, so it costs
    no descriptor to keep until somebody reads it.
    """

    def __init__(self, descriptor: int, *, capacity_bytes: int, may_grow: bool = False) -> None:
        """Own `descriptor`, whose kernel buffer holds `capacity_bytes` and may be enlarged or not."""
        super().__init__(descriptor)
        self._capacity = capacity_bytes
        self._may_grow = may_grow
        self._kept = bytearray()
        self._process_has_exited = False
        self._ended = False
        self._is_passed_on = False

    async def read(self, limit: int) -> bytes:
        """Wait for output and return up to `limit` bytes of it; b"" at the end of the stream.

        Readers take turns in the order they came. A read that is cancelled has taken nothing.
        Raises KernelRefused; Unavailable if all of it goes to a connection.
        """
        if self._is_passed_on:
            raise Unavailable("the output goes to a connection of the host's")
        return await self._next(limit)

    def pass_on(self, connection: socket.socket | None) -> asyncio.Task[None]:
        """Send everything to `connection`, up to the stream's end, and close it; the task that does so.

        Without a connection, or once nobody listens any more, it is dropped: the process is not held
        up. From now on `read` is refused.
        """
        self._is_passed_on = True
        return _owning(self._send_all(connection), connection)

    async def _send_all(self, connection: socket.socket | None) -> None:
        with suppress(KernelRefused):  # what cannot be read has ended
            while chunk := await self._next(_PASSED_BYTES):
                if connection is not None and not await _sent(connection, chunk):
                    connection = None

    async def _next(self, limit: int) -> bytes:
        async with self._turn:
            while (chunk := self._take(limit)) is None:
                await self._changed()
            return chunk

    @property
    def has_ended(self) -> bool:
        """Whether a reader has been told that there is no more."""
        return self._ended

    def process_exited(self) -> None:
        """Take what the process left in the pipe, at most the pipe's capacity, and end with it."""
        while self._descriptor is not None and len(self._kept) < self._capacity:
            chunk = self._read(self._capacity)
            if chunk is None:
                break
            if not chunk:
                self._close_descriptor()
            self._kept += chunk
        self._process_has_exited = True
        self._wake()

    def close(self) -> None:
        """Drop what has not been read and end the stream. Safe to call twice."""
        self._kept.clear()
        self._ended = True
        self._close_descriptor()
        self._wake()

    def _take(self, limit: int) -> bytes | None:
        """What a reader gets now; None if it has to wait."""
        if limit <= 0:
            return b""
        if self._kept:
            chunk = bytes(self._kept[:limit])
            del self._kept[:limit]
            return chunk
        if self._ended or self._descriptor is None:
            self._ended = True
            return b""
        data = self._read(min(limit, self._capacity))
        if data is None:
            self._ended = self._process_has_exited
            return b"" if self._ended else None
        if not data:
            self._ended = True
            self._close_descriptor()
        elif len(data) == self._capacity and self._may_grow:
            self._grow()
        return data

    def _read(self, limit: int) -> bytes | None:
        """One read(2): b"" if every writer has closed, None if there is nothing now."""
        assert self._descriptor is not None
        try:
            return os.read(self._descriptor, limit)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EIO:  # a terminal whose other side is closed (tty_ioctl, pty(7))
                return b""
            raise KernelRefused.from_oserror("read", error) from error

    def _grow(self) -> None:
        """Give a process that writes faster than it is read a larger pipe."""
        assert self._descriptor is not None
        self._may_grow = False
        try:
            self._capacity = fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _LARGE_PIPE_BYTES)
        except OSError:  # the limits of pipe(7): it stays as it is
            return


class InputStream(_Stream):
    """What a process reads: the writing end of its pipe, or the master of its terminal."""

    def __init__(self, descriptor: int, *, terminal: bool = False) -> None:
        """Own `descriptor`."""
        super().__init__(descriptor)
        self._terminal = terminal
        self._closing = False
        self._writers = 0
        self._is_passed_on = False

    def pass_on(self, connection: socket.socket | None) -> asyncio.Task[None]:
        """Write what comes from `connection`, and close the stream at its end; the task that does so.

        Without a connection the process reads the end at once. From now on `write` is refused.
        """
        self._is_passed_on = True
        return _owning(self._write_received(connection), connection)

    async def _write_received(self, connection: socket.socket | None) -> None:
        with suppress(KernelRefused, Unavailable):  # the process reads no more
            while connection is not None and (data := await _received(connection)):
                await self._write_all(data)
        self.close()

    async def write(self, data: bytes) -> int:
        """Write all of `data` and return its length; waits while the pipe is full.

        Writers take turns; nobody else waits. Raises Unavailable after `close` or if the input comes
        from a connection, KernelRefused (EPIPE) once nobody can read it any more.
        """
        if self._is_passed_on:
            raise Unavailable("the input comes from a connection of the host's")
        return await self._write_all(data)

    async def _write_all(self, data: bytes) -> int:
        if self._closing:
            raise Unavailable("standard input has been closed")
        self._writers += 1
        try:
            async with self._turn:
                left = memoryview(data)
                while left:
                    written = self._write(left)
                    if written is None:
                        await self._changed(writing=True)
                    else:
                        left = left[written:]
                return len(data)
        finally:
            self._writers -= 1
            if self._closing and not self._writers:
                self._close_descriptor()

    def close(self) -> None:
        """Tell the process that there is no more, after the writes that are under way.

        A terminal stays open, since its output comes over the same line. Safe to call twice.
        """
        if self._terminal:
            return
        self._closing = True
        if not self._writers:
            self._close_descriptor()

    def process_exited(self) -> None:
        """Close for good: writes that are under way fail."""
        self._close_descriptor()
        self._wake()

    def _write(self, data: memoryview) -> int | None:
        """One write(2); None if there is no room now."""
        if self._descriptor is None:
            raise KernelRefused("write to standard input failed: its process has exited (EPIPE)")
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return None
        except OSError as error:
            raise KernelRefused.from_oserror("write to standard input", error) from error


def _owning(work: Coroutine[Any, Any, None], connection: socket.socket | None) -> asyncio.Task[None]:
    """A task for `work`, with whose end, whatever it is, `connection` is closed."""
    task = asyncio.create_task(work)
    if connection is not None:
        connection.setblocking(False)
        task.add_done_callback(lambda _: connection.close())
    return task


async def _sent(connection: socket.socket, chunk: bytes) -> bool:
    """Send `chunk`; False if the peer has gone."""
    try:
        await asyncio.get_running_loop().sock_sendall(connection, chunk)
    except OSError:
        return False
    return True


async def _received(connection: socket.socket) -> bytes:
    """What comes next; b"" if nothing more does, or the peer has gone."""
    try:
        return await asyncio.get_running_loop().sock_recv(connection, _PASSED_BYTES)
    except OSError:
        return b""


def output_pipe(size_bytes: int) -> tuple[OutputStream, int]:
    """A pipe to read a process's output from, and the end that the process is to get.

    `size_bytes` is the pipe's fixed capacity (`agent.container_pipe_size`); 0 leaves it to the kernel
    and to the traffic. Raises KernelRefused if the kernel does not grant the size.
    """
    reading, writing = os.pipe()  # both close-on-exec
    try:
        if size_bytes > 0:
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, size_bytes)
        capacity = fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ)
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise KernelRefused.from_oserror(f"setting a pipe's size to {size_bytes} bytes", error) from error
    os.set_blocking(reading, False)
    return OutputStream(reading, capacity_bytes=capacity, may_grow=size_bytes <= 0), writing


def input_pipe() -> tuple[InputStream, int]:
    """A pipe to write a process's input to, and the end that the process is to get."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    return InputStream(writing), reading


def terminal_streams(master: int) -> tuple[InputStream, OutputStream]:
    """The two directions of the pseudo-terminal whose master is `master`, which they own."""
    os.set_blocking(master, False)
    output = OutputStream(master, capacity_bytes=_TERMINAL_BYTES)
    return InputStream(os.dup(master), terminal=True), output
