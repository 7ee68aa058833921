"""What a sandbox's monitor and its clients say to each other on a unix socket.

A frame is a big-endian 32-bit length, one byte that says what kind of frame it is, and so many bytes
of payload: a JSON message, or a piece of one of the three standard streams as it is.

One connection carries one request. The client's first frame is the request; the monitor answers with
exactly one closing message, `Done`, `Exited` or `Failed`. In between, depending on the request, both
sides send stream pieces and the smaller messages below.

The client sends its next piece of standard input only after `InputTaken`: at most one piece is ever
under way, so a command that does not read never keeps a signal or a new window size from arriving.
"""

from __future__ import annotations

import asyncio
import enum
import json
import struct
from dataclasses import dataclass

from host.errors import HostError
from host.json_codec import from_document, to_document
from host.run_options import WindowSize

HEADER = struct.Struct(">IB")
MAX_PAYLOAD = 4 * 1024 * 1024
INPUT_PIECE = 64 * 1024


class ProtocolError(HostError):
    """The other end sent something that is not in the protocol."""


class FrameKind(enum.IntEnum):
    """What the payload of a frame is."""

    MESSAGE = 0
    STDIN = 1  # empty: the end of standard input
    STDOUT = 2
    STDERR = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, without its header."""

    kind: FrameKind
    payload: bytes


# ---- requests: the first frame of a client ----


@dataclass(frozen=True, slots=True)
class Attach:
    """Follow the container's standard streams and its end.

    With `lifeline` the sandbox ends when this client vanishes without a `Detach`; `streams` false
    asks for progress and the end alone.
    """

    lifeline: bool = False
    streams: bool = True


@dataclass(frozen=True, slots=True)
class Execute:
    """Run another command in the container; with `detach` the answer is `Done` once it has started."""

    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    tty: bool = False
    interactive: bool = False
    detach: bool = False
    window: WindowSize | None = None


@dataclass(frozen=True, slots=True)
class FollowLog:
    """All output so far, then all that comes, then how the container ended."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Tell how the container ended, once everything of the sandbox is gone."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the sandbox: SIGTERM, after `grace_s` seconds SIGKILL, then take everything down."""

    grace_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Kill:
    """Send the container's first process a signal."""

    signum: int


# ---- from a client, while its request runs ----


@dataclass(frozen=True, slots=True)
class Resize:
    """The client's terminal has a new size."""

    window: WindowSize


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to the process this connection is about."""

    signum: int


@dataclass(frozen=True, slots=True)
class Detach:
    """The client leaves and means no harm; the process goes on."""


# ---- from the monitor ----


@dataclass(frozen=True, slots=True)
class Progress:
    """What the monitor is about to do."""

    step: str


@dataclass(frozen=True, slots=True)
class Started:
    """The process runs."""


@dataclass(frozen=True, slots=True)
class InputTaken:
    """The last piece of standard input has been taken; `closed` says that no more is wanted."""

    closed: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The request has been carried out."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The process ended: its exit code, or 128 + the signal that killed it."""

    status: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The request could not be carried out.

    `message` is for the user, `status` what the command line exits with, `trace` the traceback.
    """

    message: str
    status: int = 125
    trace: str = ""


Request = Attach | Execute | FollowLog | Wait | Stop | Kill
Message = Request | Resize | Signal | Detach | Progress | Started | InputTaken | Done | Exited | Failed

_MESSAGES: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        *(Attach, Execute, FollowLog, Wait, Stop, Kill, Resize, Signal, Detach),
        *(Progress, Started, InputTaken, Done, Exited, Failed),
    )
}


def encode(kind: FrameKind, payload: bytes) -> bytes:
    """One frame as bytes."""
    return HEADER.pack(len(payload), kind) + payload


def encode_message(message: Message) -> bytes:
    """A frame that carries `message`."""
    document = {"type": type(message).__name__, **to_document(message)}
    return encode(FrameKind.MESSAGE, json.dumps(document).encode())


def decode_message(payload: bytes) -> Message:
    """The message in a frame's payload; raises ProtocolError on anything else."""
    try:
        document = json.loads(payload)
        kind = _MESSAGES[document.pop("type")]
        return from_document(kind, document)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ProtocolError(f"not a message of the monitor's: {payload[:80]!r} ({error})") from error


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None when the other end has closed.

    An end within a frame counts as closed too: the other end was killed. Raises ProtocolError.
    """
    try:
        length, kind = HEADER.unpack(await reader.readexactly(HEADER.size))
        if length > MAX_PAYLOAD:
            raise ProtocolError(f"a frame of {length} bytes; {MAX_PAYLOAD} are allowed")
        try:
            frame_kind = FrameKind(kind)
        except ValueError as error:
            raise ProtocolError(f"frame kind {kind} is unknown") from error
        return Frame(frame_kind, await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
