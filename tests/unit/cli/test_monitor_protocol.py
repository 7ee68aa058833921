"""Frames and messages between a monitor and its clients, however the bytes are cut."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host import monitor_protocol as protocol
from host.monitor_protocol import (
    HEADER,
    MAX_PAYLOAD,
    Execute,
    Frame,
    FrameKind,
    Message,
    ProtocolError,
    decode_message,
    encode,
    encode_message,
    read_frame,
)
from host.run_options import WindowSize

MESSAGES: list[Message] = [
    protocol.Attach(lifeline=True, streams=False),
    Execute(("ls", "-l"), env=("A=b",), window=WindowSize(1, 2)),
    protocol.FollowLog(),
    protocol.Wait(),
    protocol.Stop(2.5),
    protocol.Kill(9),
    protocol.Resize(WindowSize(24, 80)),
    protocol.Signal(2),
    protocol.Detach(),
    protocol.Progress("Booting"),
    protocol.Started(),
    protocol.InputTaken(closed=True),
    protocol.Done(),
    protocol.Exited(137),
    protocol.Failed("no such file", 127, "Traceback"),
]
FRAMES = st.lists(st.builds(Frame, st.sampled_from(FrameKind), st.binary(max_size=200)), max_size=8)


async def feed(data: bytes, cuts: list[int]) -> list[Frame]:
    """What a reader makes of `data` when it comes in pieces."""
    reader = asyncio.StreamReader()
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(places):
        reader.feed_data(data[begin:end])
    reader.feed_eof()
    frames = []
    while frame := await read_frame(reader):
        frames.append(frame)
    return frames


@given(FRAMES, st.lists(st.integers(min_value=0)))
def test_frames_come_out_as_they_went_in(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(encode(frame.kind, frame.payload) for frame in frames)
    assert asyncio.run(feed(data, cuts)) == frames


@given(FRAMES.filter(bool), st.integers(min_value=1))
def test_an_end_within_a_frame_gives_only_the_whole_ones(frames: list[Frame], missing: int) -> None:
    last = encode(frames[-1].kind, frames[-1].payload)
    data = b"".join(encode(frame.kind, frame.payload) for frame in frames)
    assert asyncio.run(feed(data[: -(missing % len(last) or 1)], [])) == frames[:-1]


@given(st.binary(max_size=64))
def test_any_bytes_give_frames_or_a_protocol_error(data: bytes) -> None:
    try:
        frames = asyncio.run(feed(data, []))
    except ProtocolError:
        return
    assert sum(HEADER.size + len(frame.payload) for frame in frames) <= len(data)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_way(message: Message) -> None:
    assert decode_message(encode_message(message)[HEADER.size :]) == message


def test_every_message_of_the_protocol_is_in_this_test() -> None:
    known = {kind for kind in vars(protocol).values() if dataclasses.is_dataclass(kind)}
    left_out = known - {type(message) for message in MESSAGES} - {Frame, WindowSize}
    assert left_out == set()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"{}",
        b'{"type": "Frame"}',
        b'{"type": "Kill"}',
        b'{"type": "Kill", "signum": "9"}',
    ],
)
def test_a_bad_message_is_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a message"):
        decode_message(payload)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_any_json_is_a_message_or_a_protocol_error(document: object) -> None:
    with pytest.raises(ProtocolError):
        decode_message(json.dumps({"type": "Exited", "status": [document]}).encode())


async def test_a_frame_that_is_too_long_is_refused_before_it_is_read() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(HEADER.pack(MAX_PAYLOAD + 1, FrameKind.STDOUT))
    with pytest.raises(ProtocolError, match="allowed"):
        await read_frame(reader)
