"""Streams over real pipes and pseudo-terminals, with exits that the test decides on."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.containers.streams import (
    InputStream,
    OutputStream,
    input_pipe,
    output_pipe,
    terminal_streams,
)
from agent.errors import KernelRefused, Unavailable


@pytest.fixture
def pipe() -> Iterator[tuple[OutputStream, int]]:
    stream, end = output_pipe(0)
    yield stream, end
    if stream.descriptor is not None:
        os.close(stream.descriptor)
    with open(end, "wb", closefd=True) if is_open(end) else open(os.devnull, "rb"):
        pass


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def read_all(stream: OutputStream, limit: int = 1 << 16) -> bytes:
    data = b""
    while chunk := await stream.read(limit):
        data += chunk
    return data


async def settle() -> None:
    """Let every task run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_reader_waits_for_output(pipe: tuple[OutputStream, int]) -> None:
    stream, end = pipe
    reading = asyncio.create_task(stream.read(100))
    await settle()
    assert not reading.done()
    os.write(end, b"hello")
    assert await reading == b"hello"


async def test_the_limit_is_kept(pipe: tuple[OutputStream, int]) -> None:
    stream, end = pipe
    os.write(end, b"hello")
    assert [await stream.read(2), await stream.read(2), await stream.read(2)] == [b"he", b"ll", b"o"]
    assert await stream.read(0) == b""
    assert not stream.has_ended


async def test_the_end_when_every_writer_has_closed(pipe: tuple[OutputStream, int]) -> None:
    stream, end = pipe
    os.write(end, b"last")
    os.close(end)
    assert await read_all(stream) == b"last"
    assert stream.has_ended
    assert stream.descriptor is None


async def test_a_reader_that_waits_hears_of_the_exit(pipe: tuple[OutputStream, int]) -> None:
    stream, _ = pipe  # somebody keeps the other end
    reading = asyncio.create_task(stream.read(100))
    await settle()
    stream.process_exited()
    assert await reading == b""


async def test_a_late_reader_gets_everything(pipe: tuple[OutputStream, int]) -> None:
    stream, end = pipe
    data = os.urandom(65536)
    assert os.write(end, data) == len(data)  # exactly full
    os.close(end)
    stream.process_exited()
    assert await read_all(stream, 1000) == data


async def test_the_end_comes_although_a_grandchild_keeps_the_pipe(pipe: tuple[OutputStream, int]) -> None:
    stream, end = pipe
    os.write(end, b"from the process ")
    stream.process_exited()
    os.write(end, b"and from the grandchild")
    assert await read_all(stream) == b"from the process and from the grandchild"
    os.write(end, b"after the end")
    assert await stream.read(100) == b""
    assert stream.descriptor is not None  # closed, the grandchild would die of SIGPIPE


async def test_the_snapshot_is_bounded_by_the_pipe(pipe: tuple[OutputStream, int]) -> None:
    stream, end = pipe
    os.write(end, b"x" * 65536)
    stream.process_exited()
    os.write(end, b"y" * 65536)  # there is room again
    assert await read_all(stream) == b"x" * 65536 + b"y" * 65536


async def test_an_exit_that_finds_all_closed_costs_no_descriptor(pipe: tuple[OutputStream, int]) -> None:
    stream, end = pipe
    os.write(end, b"kept")
    os.close(end)
    stream.process_exited()
    assert stream.descriptor is None
    assert not stream.has_ended
    assert await read_all(stream) == b"kept"


async def test_a_cancelled_read_loses_nothing(pipe: tuple[OutputStream, int]) -> None:
    stream, end = pipe
    reading = asyncio.create_task(stream.read(100))
    await settle()
    os.write(end, b"hello")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await stream.read(100) == b"hello"


async def test_readers_take_turns(pipe: tuple[OutputStream, int]) -> None:
    stream, end = pipe
    reading = [asyncio.create_task(stream.read(3)) for _ in range(3)]
    await settle()
    os.write(end, b"abcdefgh")
    assert await asyncio.gather(*reading) == [b"abc", b"def", b"gh"]


async def test_close_ends_readers_and_drops_the_rest(pipe: tuple[OutputStream, int]) -> None:
    stream, end = pipe
    reading = asyncio.create_task(stream.read(3))
    await settle()
    stream.close()
    stream.close()
    assert await reading == b""
    with pytest.raises(BrokenPipeError):
        os.write(end, b"x")


@given(
    written=st.lists(st.binary(max_size=3000), max_size=12),
    limit=st.integers(1, 5000),
    exit_after=st.integers(0, 12),
    closes=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_every_byte_arrives_in_order_whatever_happens(
    written: list[bytes], limit: int, exit_after: int, closes: bool
) -> None:
    async def scenario() -> bytes:
        stream, end = output_pipe(0)
        for number, data in enumerate(written):
            if number == exit_after:
                stream.process_exited()
            os.write(end, data)
        if closes:
            os.close(end)
        stream.process_exited()
        try:
            return await read_all(stream, limit)
        finally:
            stream.close()
            if not closes:
                os.close(end)

    assert asyncio.run(scenario()) == b"".join(written)


def capacity(stream: OutputStream) -> int:
    assert stream.descriptor is not None
    return fcntl.fcntl(stream.descriptor, fcntl.F_GETPIPE_SZ)


async def test_a_pipe_that_is_found_full_grows(pipe: tuple[OutputStream, int]) -> None:
    stream, end = pipe
    assert capacity(stream) == 65536
    os.write(end, b"x" * 65536)
    assert len(await stream.read(1 << 22)) == 65536
    assert capacity(stream) == 1 << 20
    os.set_blocking(end, False)
    assert os.write(end, b"y" * (1 << 21)) == 1 << 20
    assert await stream.read(1 << 22) == b"y" * (1 << 20)


async def test_a_configured_pipe_size_stays() -> None:
    stream, end = output_pipe(8192)
    try:
        assert capacity(stream) == 8192
        os.write(end, b"x" * 8192)
        assert len(await stream.read(1 << 22)) == 8192
        assert capacity(stream) == 8192
    finally:
        stream.close()
        os.close(end)


def test_a_pipe_size_that_the_kernel_refuses() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(KernelRefused, match=r"setting a pipe's size to 2147483647 bytes"):
        output_pipe(2**31 - 1)
    assert os.listdir("/proc/self/fd") == before


async def test_the_container_s_ends_block_and_ours_do_not() -> None:
    output, output_end = output_pipe(0)
    stdin, stdin_end = input_pipe()
    assert output.descriptor is not None
    assert stdin.descriptor is not None
    try:
        assert not os.get_blocking(output.descriptor)
        assert not os.get_blocking(stdin.descriptor)
        assert os.get_blocking(output_end)
        assert os.get_blocking(stdin_end)
        for descriptor in (output.descriptor, stdin.descriptor, output_end, stdin_end):
            assert not os.get_inheritable(descriptor)
    finally:
        output.close()
        stdin.process_exited()
        os.close(output_end)
        os.close(stdin_end)


@pytest.fixture
def stdin_pipe() -> Iterator[tuple[InputStream, int]]:
    stream, end = input_pipe()
    yield stream, end
    if stream.descriptor is not None:
        os.close(stream.descriptor)
    if is_open(end):
        os.close(end)


async def drain(end: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await asyncio.to_thread(os.read, end, size - len(data))
    return data


async def test_a_full_pipe_blocks_its_writer_alone(stdin_pipe: tuple[InputStream, int]) -> None:
    stream, end = stdin_pipe
    data = os.urandom(300_000)
    writing = asyncio.create_task(stream.write(data))
    await settle()
    assert not writing.done()
    assert await drain(end, len(data)) == data
    assert await writing == len(data)


async def test_writers_take_turns(stdin_pipe: tuple[InputStream, int]) -> None:
    stream, end = stdin_pipe
    writing = [asyncio.create_task(stream.write(bytes([n]) * 100_000)) for n in range(3)]
    await settle()
    assert await drain(end, 300_000) == b"\0" * 100_000 + b"\1" * 100_000 + b"\2" * 100_000
    assert await asyncio.gather(*writing) == [100_000] * 3


async def test_closing_waits_for_the_writes_that_came_before(stdin_pipe: tuple[InputStream, int]) -> None:
    stream, end = stdin_pipe
    writing = asyncio.create_task(stream.write(b"x" * 100_000))
    await settle()
    stream.close()
    stream.close()
    with pytest.raises(Unavailable, match="has been closed"):
        await stream.write(b"too late")
    assert await drain(end, 100_000) == b"x" * 100_000
    await writing
    assert os.read(end, 1) == b""


async def test_empty_input(stdin_pipe: tuple[InputStream, int]) -> None:
    assert await stdin_pipe[0].write(b"") == 0


async def test_nobody_reads(stdin_pipe: tuple[InputStream, int]) -> None:
    stream, end = stdin_pipe
    os.close(end)
    with pytest.raises(KernelRefused, match="EPIPE"):
        await stream.write(b"x")


async def test_an_exit_ends_a_blocked_writer_although_a_grandchild_keeps_the_pipe(
    stdin_pipe: tuple[InputStream, int],
) -> None:
    stream, _ = stdin_pipe
    writing = asyncio.create_task(stream.write(b"x" * 100_000))
    await settle()
    stream.process_exited()
    with pytest.raises(KernelRefused, match="its process has exited"):
        await writing


async def test_terminal() -> None:
    master, slave = os.openpty()
    stdin, output = terminal_streams(master)
    try:
        os.write(slave, b"prompt\n")
        assert await output.read(100) == b"prompt\r\n"
        await stdin.write(b"typed\n")
        assert os.read(slave, 100) == b"typed\n"
        assert await output.read(100) == b"typed\r\n"  # the echo
        stdin.close()
        assert stdin.descriptor is not None
        os.write(slave, b"bye\n")
        os.close(slave)
        assert await read_all(output) == b"bye\r\n"  # the kernel's EIO is the end
    finally:
        stdin.process_exited()
        output.close()


async def test_the_end_of_a_terminal_that_a_grandchild_keeps() -> None:
    master, slave = os.openpty()
    stdin, output = terminal_streams(master)
    os.set_blocking(slave, False)
    try:
        text = b""
        while True:
            line = b"0123456\n"
            try:
                text += line[: os.write(slave, line)]  # the last one may fit in part
            except BlockingIOError:
                break
        stdin.process_exited()
        output.process_exited()
        assert await read_all(output) == text.replace(b"\n", b"\r\n")
        assert len(text) > 1000
    finally:
        output.close()
        os.close(slave)
