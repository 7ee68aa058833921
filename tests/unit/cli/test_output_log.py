"""The log of a container's output: whole, in order, bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

from host.monitor_protocol import FrameKind
from host.output_log import LogRecord, OutputLog, older, read_log


def said(records: list[LogRecord], stream: FrameKind = FrameKind.STDOUT) -> bytes:
    """All of one stream."""
    return b"".join(record.data for record in records if record.stream is stream)


async def collect(log: OutputLog) -> list[LogRecord]:
    """Everything that a follower sees until the log is closed."""
    return [record async for record in log.follow()]


async def test_the_log_keeps_both_streams_apart(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "log")
    await log.append(FrameKind.STDOUT, b"out\xff\x00")
    await log.append(FrameKind.STDERR, b"err")
    await log.append(FrameKind.STDOUT, b"more")
    await log.close()
    records = list(read_log(tmp_path / "log"))
    assert said(records) == b"out\xff\x00more"
    assert said(records, FrameKind.STDERR) == b"err"
    assert records[0].time_ns <= records[-1].time_ns


async def test_a_follower_sees_what_was_and_what_comes(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "log")
    await log.append(FrameKind.STDOUT, b"before,")
    follower = asyncio.create_task(collect(log))
    await asyncio.sleep(0)
    await log.append(FrameKind.STDOUT, b"after")
    await log.close()
    assert said(await asyncio.wait_for(follower, 5)) == b"before,after"


async def test_a_full_log_keeps_its_last_part_and_a_quick_follower_misses_nothing(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "log", limit_bytes=200)
    follower = asyncio.create_task(collect(log))
    pieces = [f"{number:04d}".encode() * 5 for number in range(40)]
    for piece in pieces:
        await log.append(FrameKind.STDOUT, piece)
        await asyncio.sleep(0)
    await log.close()
    assert said(await asyncio.wait_for(follower, 5)) == b"".join(pieces)
    kept = said(list(read_log(tmp_path / "log")))
    assert b"".join(pieces).endswith(kept)
    assert len(kept) >= 200 // 33 * 20
    assert sum(part.stat().st_size for part in tmp_path.iterdir()) <= 2 * (200 + 33)
    assert older(tmp_path / "log").exists()


async def test_a_slow_follower_goes_on_with_the_oldest_that_is_left(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "log", limit_bytes=200)
    for number in range(40):
        await log.append(FrameKind.STDOUT, f"{number:04d}".encode() * 5)
    await log.close()
    seen = said(await asyncio.wait_for(collect(log), 5))
    assert seen == said(list(read_log(tmp_path / "log")))


async def test_a_record_cut_short_ends_the_log(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "log")
    await log.append(FrameKind.STDOUT, b"whole")
    await log.append(FrameKind.STDOUT, b"cut short")
    await log.close()
    path = tmp_path / "log"
    path.write_bytes(path.read_bytes()[:-3])
    assert said(list(read_log(path))) == b"whole"


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(read_log(tmp_path / "log")) == []
