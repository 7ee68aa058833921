"""The codec: golden bytes, any split of a stream, and protobuf's own reading of the envelopes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.transports.ttrpc_frames import (
    MAX_PAYLOAD_BYTES,
    REQUEST,
    RESPONSE,
    Frame,
    FrameDecoder,
    FrameError,
    Request,
    Response,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

# Written out by hand from PROTOCOL.md and the protobuf encoding guide.
GOLDEN_REQUESTS = {
    "Check": (
        3,
        Request("grpc.Health", "Check"),
        "00000014 00000003 01 00  0a 0b 677270632e4865616c7468  12 05 436865636b",
    ),
    "all fields": (
        0x01020305,
        Request("s", "m", b"\x08\x01", 1_000_000_000, {"k": "v"}),
        "00000018 01020305 01 00  0a0173 12016d 1a020801 20 8094ebdc03 2a06 0a016b 120176",
    ),
    "expired": (
        5,
        Request("s", "m", timeout_ns=-1),
        "00000011 00000005 01 00  0a0173 12016d 20 ffffffffffffffffff01",
    ),
}
GOLDEN_RESPONSES = {
    "serving": (3, Response(payload=b"\x08\x01"), "00000006 00000003 02 00  0a00 1202 0801"),
    "empty": (7, Response(), "00000002 00000007 02 00  0a00"),
    "error": (9, Response(5, "no"), "00000008 00000009 02 00  0a06 0805 1202 6e6f"),
}


def cut(stream: bytes, sizes: Iterable[int] = ()) -> list[Frame]:
    """What a decoder makes of `stream`, arriving in pieces of at most the given sizes, then whole."""
    decoder = FrameDecoder()
    frames: list[Frame] = []
    pieces = iter(sizes)
    while stream:
        buffer = decoder.get_buffer()
        size = min(len(stream), len(buffer), next(pieces, len(stream)))
        buffer[:size] = stream[:size]
        stream = stream[size:]
        frames += decoder.received(size)
    assert decoder.between_frames
    return frames


def as_frame(data: bytes) -> tuple[int, int, bytes]:
    (frame,) = cut(data)
    assert frame.payload is not None
    return frame.stream_id, frame.type, bytes(frame.payload)


@pytest.mark.parametrize(("stream_id", "request_", "text"), GOLDEN_REQUESTS.values(), ids=GOLDEN_REQUESTS)
def test_golden_request(stream_id: int, request_: Request, text: str) -> None:
    data = bytes.fromhex(text)
    assert b"".join(encode_request(stream_id, request_)) == data
    read_id, kind, payload = as_frame(data)
    assert (read_id, kind, decode_request(payload)) == (stream_id, REQUEST, request_)


@pytest.mark.parametrize(("stream_id", "response", "text"), GOLDEN_RESPONSES.values(), ids=GOLDEN_RESPONSES)
def test_golden_response(stream_id: int, response: Response, text: str) -> None:
    data = bytes.fromhex(text)
    assert b"".join(encode_response(stream_id, response)) == data
    read_id, kind, payload = as_frame(data)
    assert (read_id, kind, decode_response(payload)) == (stream_id, RESPONSE, response)


def test_a_success_may_come_without_a_status() -> None:
    assert decode_response(bytes.fromhex("12020801")) == Response(payload=b"\x08\x01")


payloads = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda size: b"\xa5" * size, st.integers(60_000, 70_000)),
)


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), payloads), max_size=8),
    st.lists(st.integers(1, 70_000), max_size=60),
)
def test_frames_survive_any_split(sent: list[tuple[int, bytes]], sizes: list[int]) -> None:
    stream = b"".join(
        b"".join(encode_request(stream_id, Request("s", "m", body))) for stream_id, body in sent
    )
    frames = cut(stream, sizes)
    got = [
        (frame.stream_id, decode_request(frame.payload).payload)
        for frame in frames
        if frame.payload is not None
    ]
    assert got == sent


def test_frames_survive_single_bytes() -> None:
    stream = b"".join(encode_response(1, Response(payload=b"abc")) + encode_response(3, Response(4, "x")))
    frames = cut(stream, [1] * len(stream))
    assert [frame.stream_id for frame in frames] == [1, 3]


@pytest.mark.parametrize("extra", [1, 1000, 20_000_000])
def test_an_oversize_frame_is_passed_over(extra: int) -> None:
    size = MAX_PAYLOAD_BYTES + extra
    stream = size.to_bytes(4) + (7).to_bytes(4) + b"\x01\x00" + bytes(size)
    after = b"".join(encode_request(9, Request("s", "m")))
    oversize, next_frame = cut(stream + after)
    assert oversize == Frame(7, REQUEST, None, size)
    assert next_frame.stream_id == 9


def test_a_frame_of_exactly_the_limit_is_whole() -> None:
    stream = MAX_PAYLOAD_BYTES.to_bytes(4) + (7).to_bytes(4) + b"\x01\x00" + b"x" * MAX_PAYLOAD_BYTES
    (frame,) = cut(stream)
    assert frame.payload == b"x" * MAX_PAYLOAD_BYTES


def test_text_is_no_frame() -> None:
    with pytest.raises(FrameError, match="not ttrpc"):
        cut(b"GET / HTTP/1.1\r\n\r\n")


def test_a_stream_that_ends_in_a_frame_is_not_between_frames() -> None:
    decoder = FrameDecoder()
    decoder.get_buffer()[:3] = b"\0\0\0"
    assert list(decoder.received(3)) == []
    assert not decoder.between_frames


def test_too_large_a_message_is_not_encoded() -> None:
    with pytest.raises(FrameError, match="exceeds the limit"):
        encode_response(1, Response(payload=bytes(MAX_PAYLOAD_BYTES)))


@pytest.mark.parametrize(
    "text",
    [
        "0a",  # a tag without a length
        "0a05 61",  # a length beyond the end
        "20 ff",  # a number without an end
        "20 ffffffffffffffffffff01",  # a number of eleven bytes
        "0a01 ff",  # a text that is not UTF-8
        "00 01",  # field number 0
        "0b",  # a group, which proto3 does not have
        "0d 0000",  # a fixed-width field cut short
    ],
)
def test_a_malformed_request_is_refused(text: str) -> None:
    with pytest.raises(FrameError):
        decode_request(bytes.fromhex(text))


def test_unknown_fields_are_passed_over() -> None:
    unknown = "7a 02 ffff  78 05  79 0000000000000000  7d 00000000  21 0000000000000000"
    assert decode_request(bytes.fromhex("0a0173" + unknown + "12016d")) == Request("s", "m")


def envelopes() -> tuple[type, type]:
    """Request and Response as protobuf itself builds them (containerd/ttrpc request.proto)."""
    types = FieldDescriptorProto
    file = FileDescriptorProto(name="ttrpc_test.proto", package="t", syntax="proto3")
    layout = {
        "KeyValue": [("key", 1, types.TYPE_STRING, ""), ("value", 2, types.TYPE_STRING, "")],
        "Status": [("code", 1, types.TYPE_INT32, ""), ("message", 2, types.TYPE_STRING, "")],
        "Request": [
            ("service", 1, types.TYPE_STRING, ""),
            ("method", 2, types.TYPE_STRING, ""),
            ("payload", 3, types.TYPE_BYTES, ""),
            ("timeout_nano", 4, types.TYPE_INT64, ""),
            ("metadata", 5, types.TYPE_MESSAGE, ".t.KeyValue"),
        ],
        "Response": [("status", 1, types.TYPE_MESSAGE, ".t.Status"), ("payload", 2, types.TYPE_BYTES, "")],
    }
    for name, fields in layout.items():
        message = file.message_type.add(name=name)
        for field, number, kind, type_name in fields:
            label = types.LABEL_REPEATED if field == "metadata" else types.LABEL_OPTIONAL
            message.field.add(name=field, number=number, type=kind, type_name=type_name or None, label=label)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    request, response = (
        GetMessageClass(pool.FindMessageTypeByName(f"t.{name}")) for name in ("Request", "Response")
    )
    return request, response


ProtobufRequest, ProtobufResponse = envelopes()
texts = st.text(max_size=20)


@given(
    texts,
    texts,
    st.binary(max_size=200),
    st.integers(-(2**63), 2**63 - 1),
    st.dictionaries(texts, texts, max_size=3),
)
def test_protobuf_reads_and_writes_the_same_requests(
    service: str, method: str, payload: bytes, timeout_ns: int, metadata: dict[str, str]
) -> None:
    request = Request(service, method, payload, timeout_ns, metadata)
    theirs = ProtobufRequest.FromString(b"".join(encode_request(1, request))[10:])  # type: ignore[attr-defined] # a class made at run time
    assert (theirs.service, theirs.method, theirs.payload) == (service, method, payload)
    assert theirs.timeout_nano == timeout_ns
    assert {pair.key: pair.value for pair in theirs.metadata} == metadata
    assert decode_request(theirs.SerializeToString()) == request


@given(st.integers(0, 16), texts, st.binary(max_size=200))
def test_protobuf_reads_and_writes_the_same_responses(code: int, message: str, payload: bytes) -> None:
    response = Response(code, message if code else "", payload)
    theirs = ProtobufResponse.FromString(b"".join(encode_response(1, response))[10:])  # type: ignore[attr-defined] # a class made at run time
    assert (theirs.status.code, theirs.status.message, theirs.payload) == (
        response.code,
        response.message,
        payload,
    )
    assert decode_response(theirs.SerializeToString()) == response


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        request = decode_request(data)
    except FrameError:
        return
    assert isinstance(request.payload, bytes)
    assert decode_request(b"".join(encode_request(1, request))[10:]) == request
