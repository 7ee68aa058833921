"""The policy's own call, and how the other calls are put under the policy."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from agent.errors import AgentError
from agent.service.agent import Agent
from agent.service.policy_input import Message
from agent.service.requests import SetPolicy, StreamData
from agent.service.rules import Rules

_log = logging.getLogger("agent.service.policy")

_READS = frozenset({"ReadStdout", "ReadStderr"})
_ASKS_ITSELF = "SetPolicy"

Handler = Callable[[Agent, Any, Rules], Awaitable[object]]


async def set_policy(agent: Agent, request: SetPolicy, rules: Rules) -> None:
    """Put a policy in force, if the present one allows it.

    Raises InvalidRequest (the present one stays), PermissionDenied, Unsupported.
    """
    await agent.policy.replace(request.policy)


def under_policy(handler: Handler, method: str, message: Message) -> Handler:
    """`handler` for the request `message`, run only if the policy allows that.

    A read takes place first, and a denied one is answered like a stream that has ended: so a host
    that may not see the output still empties the pipe, and the container is not held up
    (kata-containers src/agent/src/rpc.rs, do_read_stream).
    """

    async def ask_first(agent: Agent, request: object, rules: Rules) -> object:
        await agent.policy.check(message)
        return await handler(agent, request, rules)

    async def read_first(agent: Agent, request: object, rules: Rules) -> object:
        answer = await handler(agent, request, rules)
        try:
            await agent.policy.check(message)
        except AgentError as error:
            _log.info("output withheld", extra={"error": str(error)})
            return StreamData(b"", at_end=True)
        return answer

    if method == _ASKS_ITSELF:
        return handler
    return read_first if method in _READS else ask_first
