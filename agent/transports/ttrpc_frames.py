"""ttrpc on bytes: frames, and the two messages that travel in them. No I/O, no protobuf.

A frame is a header of ten bytes and a payload:

     0               4               8    9    10
    +---------------+---------------+----+----+-----------
    | payload size  | stream id     |type|flag| payload …
    +---------------+---------------+----+----+-----------

Numbers are big-endian. A call is one request and one response with the same stream id, which
the client chooses: odd, each once. Source: PROTOCOL.md of containerd/ttrpc at 4b166fb.

The payload of a request or response is a small protobuf message around the call's own bytes.
It is read and written by hand here (the encoding is in protobuf.dev/programming-guides/encoding),
so that the call's bytes, which may be megabytes, are copied no more than they must.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MAX_PAYLOAD_BYTES = 4 << 20
"""The largest payload a frame may have; channel.go, messageLengthMax."""

# A longer payload is passed over, so that its sender can be told. But four bytes of text, read as
# a length, exceed this: whoever sends such a thing does not speak ttrpc.
_NONSENSE_BYTES = 256 << 20

# A buffer that holds the answer to a usual read, 32 KiB, whole.
_SHARED_BYTES = 64 << 10

REQUEST = 1
RESPONSE = 2

_HEADER = struct.Struct(">IIBB")


class FrameError(ValueError):
    """The bytes are not ttrpc."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `payload` is None if it was over the limit and has been thrown away."""

    stream_id: int
    type: int
    payload: bytes | bytearray | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Request:
    """A call: `payload` is the request message of `method`, encoded."""

    service: str
    method: str
    payload: bytes = b""
    timeout_ns: int = 0  # 0: none; negative: it is over already
    metadata: Mapping[str, str] = field(default_factory=dict)  # of equal keys, the last


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: `code` 0 with the response message's bytes, or another code and why."""

    code: int = 0
    message: str = ""
    payload: bytes = b""


class FrameDecoder:
    """Cuts a stream of bytes, arriving in pieces of any size, into frames.

    It owns the buffer that the bytes are received into, in the manner of asyncio.BufferedProtocol:
    a large payload is received where it stays, and small frames share one small buffer. A large
    allocation per read is what costs most otherwise: the kernel hands out each page anew.
    """

    def __init__(self) -> None:
        self._shared = memoryview(bytearray(_SHARED_BYTES))
        self._filled = 0  # of the shared buffer: the beginning of a frame
        self._large: _LargeFrame | None = None

    @property
    def between_frames(self) -> bool:
        """True if the stream may end here: no frame has begun."""
        return self._large is None and self._filled == 0

    def get_buffer(self) -> memoryview:
        """Where to put the next bytes, as many as are there or fit; never empty."""
        if self._large is not None and self._large.payload is not None:
            return memoryview(self._large.payload)[self._large.received :]
        return self._shared[self._filled :]

    def received(self, size_bytes: int) -> Iterator[Frame]:
        """The frames that are complete now that `size_bytes` have been put into the buffer.

        Run the iterator to its end before receiving more. An oversize frame is told of when all
        of it has gone by. Raises FrameError if this is not ttrpc; nothing that follows means
        anything then.
        """
        if self._large is None:
            yield from self._cut(0, self._filled + size_bytes)
            return
        large = self._large
        taken = large.take(size_bytes)
        if large.complete:
            self._large = None
            yield large.frame()
            if large.payload is None:  # it went by through the shared buffer, with what follows it
                yield from self._cut(taken, size_bytes)

    def _cut(self, position: int, end: int) -> Iterator[Frame]:
        """The whole frames between two positions of the shared buffer; keep what is left over."""
        while end - position >= _HEADER.size:
            size, stream_id, kind, _flags = _HEADER.unpack_from(self._shared, position)
            if size > _NONSENSE_BYTES:
                raise FrameError(f"a frame of {size} bytes is not ttrpc")
            start = position + _HEADER.size
            if start + size <= end:
                yield Frame(stream_id, kind, bytes(self._shared[start : start + size]), size)
                position = start + size
            elif size > len(self._shared) - _HEADER.size:
                self._large = _LargeFrame(stream_id, kind, size, self._shared[start:end])
                position = end
            else:
                break
        self._filled = end - position
        self._shared[: self._filled] = self._shared[position:end]


class _LargeFrame:
    """A frame that does not fit the shared buffer, and how much of its payload has come."""

    def __init__(self, stream_id: int, kind: int, size_bytes: int, beginning: memoryview) -> None:
        self.size_bytes = size_bytes
        self.received = len(beginning)
        self.payload = bytearray(size_bytes) if size_bytes <= MAX_PAYLOAD_BYTES else None
        if self.payload is not None:
            self.payload[: len(beginning)] = beginning
        self._stream_id = stream_id
        self._kind = kind

    @property
    def complete(self) -> bool:
        return self.received == self.size_bytes

    def take(self, size_bytes: int) -> int:
        """Count what has arrived; how much of it belongs to this frame."""
        taken = min(size_bytes, self.size_bytes - self.received)
        self.received += taken
        return taken

    def frame(self) -> Frame:
        return Frame(self._stream_id, self._kind, self.payload, self.size_bytes)


def encode_request(stream_id: int, request: Request) -> list[bytes]:
    """The pieces of a request's frame, to be written one after the other.

    Raises FrameError if it exceeds the limit.
    """
    before = _text(1, request.service) + _text(2, request.method) + _tag(3, request.payload)
    after = b""
    if request.timeout_ns:
        after += b"\x20" + _varint(request.timeout_ns & 0xFFFF_FFFF_FFFF_FFFF)
    for key, value in request.metadata.items():
        pair = _text(1, key) + _text(2, value)
        after += _tag(5, pair, even_empty=True) + pair
    return _frame(stream_id, REQUEST, before, request.payload, after)


def encode_response(stream_id: int, response: Response) -> list[bytes]:
    """The pieces of a response's frame, to be written one after the other.

    A success carries an empty status, as the agent of Kata 2 to 4 sends it. Raises FrameError
    if the response exceeds the limit.
    """
    status = b""
    if response.code:
        status = b"\x08" + _varint(response.code) + _text(2, response.message)
    before = _tag(1, status, even_empty=True) + status + _tag(2, response.payload)
    return _frame(stream_id, RESPONSE, before, response.payload)


def decode_request(payload: bytes | bytearray) -> Request:
    """Read a request frame's payload. Raises FrameError if it is none."""
    service = method = ""
    body = b""
    timeout_ns = 0
    metadata: dict[str, str] = {}
    for number, value in _fields(memoryview(payload)):
        match number, value:
            case 1, memoryview():
                service = _to_text(value)
            case 2, memoryview():
                method = _to_text(value)
            case 3, memoryview():
                body = bytes(value)
            case 4, int():
                timeout_ns = value - (1 << 64) if value >> 63 else value
            case 5, memoryview():
                pair = {key: _to_text(text) for key, text in _fields(value) if isinstance(text, memoryview)}
                metadata[pair.get(1, "")] = pair.get(2, "")
    return Request(service, method, body, timeout_ns, metadata)


def decode_response(payload: bytes | bytearray) -> Response:
    """Read a response frame's payload. Raises FrameError if it is none."""
    code = 0
    message = ""
    body = b""
    for number, value in _fields(memoryview(payload)):
        match number, value:
            case 1, memoryview():
                code, message = _decode_status(value)
            case 2, memoryview():
                body = bytes(value)
    return Response(code, message, body)


def _decode_status(data: memoryview) -> tuple[int, str]:
    """Code and message of a google.rpc.Status."""
    code = 0
    message = ""
    for number, value in _fields(data):
        match number, value:
            case 1, int():
                code = value & 0xFFFF_FFFF
            case 2, memoryview():
                message = _to_text(value)
    return code, message


def _frame(stream_id: int, kind: int, before: bytes, payload: bytes, after: bytes = b"") -> list[bytes]:
    """A frame around a message that is `payload` between two other parts."""
    size = len(before) + len(payload) + len(after)
    if size > MAX_PAYLOAD_BYTES:
        raise FrameError(f"a message of {size} bytes exceeds the limit of {MAX_PAYLOAD_BYTES}")
    return [_HEADER.pack(size, stream_id, kind, 0) + before, payload, after]


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of an encoded message: number, and a varint's number or delimited bytes.

    Fixed-width fields, which no message here has, are passed over. Raises FrameError if `data` is
    malformed.
    """
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise FrameError("field number 0 in an encoded message")
        if wire_type == 0:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        if wire_type == 2:
            size, position = _read_varint(data, position)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise FrameError(f"wire type {wire_type} in an encoded message")
        end = position + size
        if end > len(data):
            raise FrameError("an encoded message ends in the middle of a field")
        if wire_type == 2:
            yield number, data[position:end]
        position = end


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """The varint at `position`, at most 64 bits of it, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise FrameError("an encoded message ends in the middle of a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    raise FrameError("a number of more than ten bytes in an encoded message")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _tag(number: int, value: bytes, *, even_empty: bool = False) -> bytes:
    """What goes before `value` as a delimited field; an empty one is left out, unless asked for."""
    return bytes((number << 3 | 2,)) + _varint(len(value)) if value or even_empty else b""


def _text(number: int, value: str) -> bytes:
    encoded = value.encode()
    return _tag(number, encoded) + encoded


def _to_text(value: memoryview) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise FrameError(f"a text that is not UTF-8: {error}") from None
