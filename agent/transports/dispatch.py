"""What the transports know of the service behind them, and how a call becomes an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from agent.errors import AgentError, Generation, Status, StatusCode, status_for

MAX_MESSAGE_BYTES = 4 << 20
"""The largest message of either wire: ttrpc's channel.go, grpc-go's default for receivers."""

STOPPING = Status(StatusCode.UNAVAILABLE, "the agent is stopping")
"""The answer to calls that are cancelled because the agent stops."""

# The rest is for what a transport adds to an answer: ttrpc a status, a tag and a length.
_MAX_REPLY_BYTES = MAX_MESSAGE_BYTES - 16

# gRPC sends the reason as a header, percent-encoded (up to three bytes for one), and its peers
# take 8 KiB of headers (grpc core, GRPC_ARG_MAX_METADATA_SIZE).
_MAX_REASON_BYTES = 2500

_log = logging.getLogger("agent.transports")


class Dispatcher(Protocol):
    """The service, as bytes in and bytes out."""

    async def call(
        self, generation: Generation, service: str, method: str, payload: bytes, metadata: Mapping[str, str]
    ) -> bytes:
        """Run one call and return its encoded answer.

        `service` is the full name ("grpc.AgentService"), `payload` the encoded request in the
        schema of `generation`, `metadata` what the peer sent beside it (keys in lower case).
        Raises AgentError; anything else is a bug of ours. Is cancelled when the peer goes away or
        its deadline passes.
        """
        ...


async def answer(
    dispatcher: Dispatcher,
    generation: Generation,
    *,
    service: str,
    method: str,
    payload: bytes,
    metadata: Mapping[str, str],
) -> bytes | Status:
    """Run one call; its encoded answer, or the status its peer gets instead.

    Both transports go through here, so that both answer the same fault alike.
    """
    try:
        reply = await dispatcher.call(generation, service, method, payload, metadata)
    except asyncio.CancelledError:
        if _being_cancelled():
            raise
        return Status(StatusCode.CANCELLED, f"{method} was given up inside the agent")
    except AgentError as error:
        return _clipped(status_for(error, generation))
    except Exception as error:  # noqa: BLE001 - a bug in one call must not end the connection of all
        _log.exception("%s/%s failed in a way it should not", service, method)
        return _clipped(status_for(error, generation))
    if len(reply) > _MAX_REPLY_BYTES:
        reason = (
            f"the answer to {method} has {len(reply)} bytes, more than the {_MAX_REPLY_BYTES} of one message"
        )
        return Status(StatusCode.RESOURCE_EXHAUSTED, reason)
    return reply


def _being_cancelled() -> bool:
    """Whether this task is asked to stop, rather than that it waited for something cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _clipped(status: Status) -> Status:
    """`status` with a message that either wire can carry: valid UTF-8, and not too long."""
    encoded = status.message.encode(errors="backslashreplace")  # a path may be no valid text
    return Status(status.code, encoded[:_MAX_REASON_BYTES].decode(errors="ignore"))
