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
    payload: bytes | None
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
    """Cuts a stream of bytes, arriving in pieces of any size, into frames."""

    def __init__(self) -> None:
        self._header = b""  # what has come of the next header
        self._frame: tuple[int, int, int] | None = None  # of the frame that is coming: size, stream, type
        self._pieces: list[bytes] = []
        self._missing = 0  # bytes of its payload that have yet to come

    @property
    def between_frames(self) -> bool:
        """True if the stream may end here: no frame has begun."""
        return self._frame is None and not self._header

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes; run the iterator to its end before feeding more.

        An oversize frame is told of when all of it has gone by. Raises FrameError if this is not
        ttrpc; nothing that follows means anything then.
        """
        position = 0
        while position < len(data) or (self._frame is not None and self._missing == 0):
            if self._frame is None:
                position = self._read_header(data, position)
            else:
                position = self._read_payload(data, position)
                if self._missing == 0:
                    yield self._finish()

    def _read_header(self, data: bytes, position: int) -> int:
        end = min(position + _HEADER.size - len(self._header), len(data))
        self._header += data[position:end]
        if len(self._header) == _HEADER.size:
            size, stream_id, kind, _flags = _HEADER.unpack(self._header)
            if size > _NONSENSE_BYTES:
                raise FrameError(f"a frame of {size} bytes is not ttrpc (it begins {self._header!r})")
            self._header = b""
            self._frame = (size, stream_id, kind)
            self._missing = size
        return end

    def _read_payload(self, data: bytes, position: int) -> int:
        assert self._frame is not None
        end = min(position + self._missing, len(data))
        if self._frame[0] <= MAX_PAYLOAD_BYTES:
            self._pieces.append(data[position:end])
        self._missing -= end - position
        return end

    def _finish(self) -> Frame:
        assert self._frame is not None
        size, stream_id, kind = self._frame
        payload = b"".join(self._pieces) if size <= MAX_PAYLOAD_BYTES else None
        self._frame = None
        self._pieces = []
        return Frame(stream_id, kind, payload, size)


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


def decode_request(payload: bytes) -> Request:
    """Read a request frame's payload. Raises FrameError if it is none."""
    service = method = ""
    body = b""
    timeout_ns = 0
    metadata: dict[str, str] = {}
    for number, value in _fields(payload):
        match number, value:
            case 1, bytes():
                service = _to_text(value)
            case 2, bytes():
                method = _to_text(value)
            case 3, bytes():
                body = value
            case 4, int():
                timeout_ns = value - (1 << 64) if value >> 63 else value
            case 5, bytes():
                pair = {key: _to_text(text) for key, text in _fields(value) if isinstance(text, bytes)}
                metadata[pair.get(1, "")] = pair.get(2, "")
    return Request(service, method, body, timeout_ns, metadata)


def decode_response(payload: bytes) -> Response:
    """Read a response frame's payload. Raises FrameError if it is none."""
    code = 0
    message = ""
    body = b""
    for number, value in _fields(payload):
        match number, value:
            case 1, bytes():
                for status_number, status_value in _fields(value):
                    match status_number, status_value:
                        case 1, int():
                            code = status_value & 0xFFFF_FFFF
                        case 2, bytes():
                            message = _to_text(status_value)
            case 2, bytes():
                body = value
    return Response(code, message, body)


def _frame(stream_id: int, kind: int, before: bytes, payload: bytes, after: bytes = b"") -> list[bytes]:
    """A frame around a message that is `payload` between two other parts."""
    size = len(before) + len(payload) + len(after)
    if size > MAX_PAYLOAD_BYTES:
        raise FrameError(f"a message of {size} bytes exceeds the limit of {MAX_PAYLOAD_BYTES}")
    return [_HEADER.pack(size, stream_id, kind, 0) + before, payload, after]


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
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


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
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


def _to_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise FrameError(f"a text that is not UTF-8: {error}") from None
