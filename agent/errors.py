"""The agent's errors, and the one table that turns them into status codes.

A leaf raises what happened; it knows no codes. Only the transports ask `status_for`.
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass


class Generation(enum.Enum):
    """The API generation of a peer: which schema its bytes have and which answers it expects."""

    KATA1 = "kata1"  # Kata 1.x, over gRPC
    KATA2 = "kata2"  # Kata 2 to 4, over ttrpc


class StatusCode(enum.IntEnum):
    """google.rpc.Code, the numbers that gRPC and ttrpc share (google/rpc/code.proto)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class AgentError(Exception):
    """What went wrong, in one sentence that names the thing, the value and what was expected.

    `hint` tells the reader what to do about it; it follows the message after a colon.
    """

    code = StatusCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message}: {hint}" if hint else message)
        self.message = message
        self.hint = hint


class InvalidRequest(AgentError):
    """The caller sent something that cannot be carried out as it stands."""

    code = StatusCode.INVALID_ARGUMENT


class DeadlineExceeded(AgentError):
    """The work did not finish in the time the caller or the configuration gives it."""

    code = StatusCode.DEADLINE_EXCEEDED


class DeviceTimeout(DeadlineExceeded):
    """A device did not appear in time; the message says which one, and what came instead."""


class NotFound(AgentError):
    """A container, process or interface that the request names does not exist."""

    code = StatusCode.NOT_FOUND


class AlreadyExists(AgentError):
    """The request would create something that is there already."""

    code = StatusCode.ALREADY_EXISTS


class LimitReached(AgentError):
    """A message or a table has reached its limit."""

    code = StatusCode.RESOURCE_EXHAUSTED


class PermissionDenied(AgentError):
    """Policy, or the agent's own rules, forbid the call."""

    code = StatusCode.PERMISSION_DENIED


class WrongState(AgentError):
    """The thing exists, but not in the state the call needs."""

    code = StatusCode.FAILED_PRECONDITION


class Unavailable(AgentError):
    """What the call needs is not there now (a terminal, a stream)."""

    code = StatusCode.UNAVAILABLE


class Unsupported(AgentError):
    """The method, or a feature of this guest's kernel, does not exist."""

    code = StatusCode.UNIMPLEMENTED


class KernelRefused(AgentError):
    """A system call failed; the message carries call, path and errno name."""

    code = StatusCode.INTERNAL

    @classmethod
    def from_oserror(cls, call: str, error: OSError) -> KernelRefused:
        """Wrap `error`, raised by `call`, with its paths and its errno's name."""
        paths = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        name = errno.errorcode.get(error.errno or 0, "unknown error")
        place = f" {paths}" if paths else ""
        return cls(f"{call}{place} failed: {error.strerror or error} ({name})")


class CodedError(AgentError):
    """An error whose code one RPC's own rule fixes; raised by the routes only, beside that rule."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class LaunchFailed(AgentError):
    """The OCI runtime could not create or start a process; `exit_code` follows the shell's habit.

    127: the command does not exist; 126: it exists but cannot be executed; 1: anything else.
    """

    code = StatusCode.INTERNAL

    def __init__(self, message: str, *, exit_code: int = 1, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Status:
    """What a peer is told of a failed call."""

    code: StatusCode
    message: str


# Where a generation's own agent answers a fault with another code than ours, its hosts test for
# that code. Sources: kata-containers/agent grpc.go (1.x), kata-containers src/agent/src/rpc.rs (4.1).
_BY_GENERATION: dict[tuple[Generation, type[AgentError]], StatusCode] = {
    (Generation.KATA1, KernelRefused): StatusCode.UNKNOWN,
    (Generation.KATA1, Unavailable): StatusCode.FAILED_PRECONDITION,
    (Generation.KATA2, DeviceTimeout): StatusCode.INTERNAL,
    (Generation.KATA2, DeadlineExceeded): StatusCode.INTERNAL,
}


def status_for(error: BaseException, generation: Generation) -> Status:
    """The status a peer of `generation` gets for `error`.

    An error that is not ours is a bug: the peer gets a short text, the log has the traceback.
    """
    if not isinstance(error, AgentError):
        return Status(StatusCode.INTERNAL, f"internal error: {type(error).__name__}")
    code = _BY_GENERATION.get((generation, type(error)), error.code)
    return Status(code, str(error))
