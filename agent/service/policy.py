"""What the policy allows: asked before each request, once there is one.

A policy is a text in Rego, `package agent_policy`, with a rule for each type of request; without a
rule a request is refused. A rule says true or false, or, in an object, `allowed` and `ops`, a JSON
patch of the policy's own state (`data.pstate`). Source: kata-containers src/agent/policy/src/policy.rs.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from agent.errors import AgentError, CodedError, PermissionDenied, StatusCode, Unsupported
from agent.linux.blocking import run_blocking
from agent.service.policy_input import Message, input_document, rule_name

if TYPE_CHECKING:
    from agent.service.rego import PreparedInput, RegoPolicy, Undefined

_log = logging.getLogger("agent.service.policy")

DEFAULT_FILE = Path("/etc/kata-opa/default-policy.rego")

Json: TypeAlias = Any


def has_engine() -> bool:
    """Whether this installation can evaluate policies. Looks at the disk."""
    from importlib.util import find_spec  # not needed by an agent without a policy

    return find_spec("regopy") is not None


class PolicyUnusable(AgentError):
    """The policy that the guest is to start with cannot be used: the agent must not serve."""


class Policy:
    """The policy in force; without one, everything is allowed."""

    def __init__(self) -> None:
        self._engine: RegoPolicy | None = None
        self._turn = asyncio.Lock()

    @property
    def is_set(self) -> bool:
        """Whether requests have to be asked about."""
        return self._engine is not None

    async def load(self, configured: str, default: Path = DEFAULT_FILE) -> None:
        """Take the policy in the file `configured`; without a name, in `default` if that exists.

        Raises PolicyUnusable: to go on without a policy would be to allow everything.
        """
        path = Path(configured) if configured else default
        if not configured and not await run_blocking(path.exists):
            return
        try:
            text = await run_blocking(path.read_text)
            async with self._turn:
                await self._take(text)
        except (AgentError, OSError, ValueError) as error:
            raise PolicyUnusable(f"the policy {path} cannot be used: {error}") from error
        _log.info("policy in force", extra={"path": str(path)})

    async def check(self, message: Message) -> None:
        """Return if the policy allows `message`; a policy that keeps a state has then changed it.

        Raises PermissionDenied, naming the rule; CodedError (INTERNAL) if the policy has no such rule or
        cannot be evaluated.
        """
        question = await run_blocking(_prepare_message, message)
        async with self._turn:
            await self._ask(rule_name(message), question)

    async def replace(self, text: str) -> None:
        """Put the policy `text` in force, with an empty state, if the present one allows it.

        The present one stays if this fails. Raises Unsupported without an engine, InvalidRequest if
        `text` is no policy, and what `check` raises.
        """
        if not await run_blocking(has_engine):
            raise Unsupported("this agent has no policy engine: the package regopy is not installed")
        question = await run_blocking(_prepare, {"policy": text})
        async with self._turn:
            if self._engine is not None:
                await self._ask("SetPolicyRequest", question)
            await self._take(text)
        _log.info("policy replaced")

    async def _take(self, text: str) -> None:
        self._engine = await run_blocking(_compile, text)
        if self._engine.allows_failures:
            _log.warning("the policy allows what it denies: AllowRequestsFailingPolicy")

    async def _ask(self, rule: str, question: PreparedInput) -> None:
        assert self._engine is not None
        answer, printed = await run_blocking(self._engine.evaluate, rule, question)
        allowed, operations = _verdict(rule, answer)
        if allowed and operations:
            self._engine = await run_blocking(self._engine.with_changes, operations)
        if allowed:
            return
        if self._engine.allows_failures:
            _log.warning("allowed although the policy denies it", extra={"rule": rule})
            return
        if allowed is None:
            raise CodedError(StatusCode.INTERNAL, f"{rule} is blocked by policy: there is no rule for it")
        raise PermissionDenied(f"{rule} is blocked by policy: {printed or f'the rule {rule} says no'}")


def _prepare_message(message: Message) -> PreparedInput:
    return _prepare(input_document(message))


def _prepare(document: Json) -> PreparedInput:
    from agent.service.rego import PreparedInput  # with it comes the engine

    return PreparedInput(document)


def _compile(text: str) -> RegoPolicy:
    if not has_engine():
        raise Unsupported("the package regopy is not installed")
    from agent.service.rego import RegoPolicy

    return RegoPolicy(text)


def _verdict(rule: str, answer: Json | Undefined) -> tuple[bool | None, list[Json]]:
    """Whether the answer allows, None if there is none; and the changes to the policy's state.

    Raises CodedError (INTERNAL) for an answer that is neither.
    """
    from agent.service.rego import UNDEFINED

    if answer is UNDEFINED:
        return None, []
    if isinstance(answer, bool):
        return answer, []
    if isinstance(answer, dict) and isinstance(answer.get("allowed"), bool):
        operations = answer.get("ops")
        if operations is None or isinstance(operations, list):
            return answer["allowed"], operations or []
    raise CodedError(
        StatusCode.INTERNAL, f"policy: {rule} says neither true nor false, nor what is allowed in an object"
    )
