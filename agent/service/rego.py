"""A policy in the language Rego, compiled by rego-cpp (the package regopy, the extra `policy`).

Imported with the first policy only: the engine costs 17 MB and 50 ms (own measurement).

What was measured of regopy 1.5.2, and decides the shape of this file: a rule that has been compiled
into a bundle answers in 0.1 ms, an ad-hoc query in 1 to 5 ms; data can be set once and not again; a
JSON text as input is exact but costs the square of a list's length (32768 numbers: 4 s); a
structured input is linear, but wraps numbers beyond 64 bits with sign and cuts texts at a NUL; `print`
goes to descriptor 1, and so do the parser's complaints.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import regopy

from agent.errors import CodedError, InvalidRequest, StatusCode
from agent.service.json_patch import PatchError, patched

Json: TypeAlias = Any

# The limits of the Rust agent (src/agent/policy/src/policy.rs).
_LONGEST_LINE_BYTES = 64 << 10
_LONGEST_TEXT_BYTES = 16 << 20
_MOST_LINES = 200_000

_PACKAGE = re.compile(r"^\s*package\s+agent_policy\s*(?:#.*)?$", re.MULTILINE)
_RULE = re.compile(r"\b\w+(?:Request|Config)\b", re.ASCII)  # every message that is asked about ends so
_ALLOWS_FAILURES = "AllowRequestsFailingPolicy"
_COMPLAINT = re.compile(r"\(errormsg \d+:(.*?)\)\n?\s*\(", re.DOTALL)
_PLACE = re.compile(r"\(error \d+:[^|)]*\|(\d+)\|")

_SHORTEST_LONG_LIST = 256  # from here on the exact input gets slow
_SIGNED_64 = 1 << 63
# Of what a policy prints: the end says where the evaluation stopped.
_LONGEST_PRINT = 1024


class Undefined:
    """What a rule that does not exist, or does not hold and has no default, evaluates to."""


UNDEFINED: Final = Undefined()


class PreparedInput:
    """A document in the form in which the engine takes it. Making it is the costly part of a question."""

    def __init__(self, document: Json) -> None:
        """Raises CodedError (INTERNAL) for a document that the engine would see wrongly."""
        exact, longest = _examine(document)
        if not exact and longest >= _SHORTEST_LONG_LIST:
            raise CodedError(
                StatusCode.INTERNAL,
                f"policy: a request with a list of {longest} and with a number beyond 64 bits, or a NUL, "
                "cannot be judged",
            )
        self.structured = regopy.Input(document) if exact else None
        self.text = "" if exact else json.dumps(document)


class RegoPolicy:
    """One policy and its state. Not to be asked by two threads at once.

    `allows_failures`: it wants what it denies to be allowed all the same, for debugging.
    """

    def __init__(self, text: str, state: Json = None) -> None:
        """Compile `text`. Raises InvalidRequest, in one line, if it is no policy."""
        _check_limits(text)
        self._text = text
        self._state = {"pstate": {}} if state is None else state
        self._rules = frozenset({_ALLOWS_FAILURES, *_RULE.findall(text)})
        self._engine = regopy.Interpreter()
        try:
            with captured_output():
                self._engine.add_module("agent_policy", text)
                self._engine.add_data(self._state)
                entry_points = [f"agent_policy/{name}" for name in sorted(self._rules)]
                self._bundle = self._engine.build(None, entry_points)
        except regopy.RegoError as error:
            raise InvalidRequest(f"the policy does not parse: {_complaint(str(error), text)}") from error
        try:
            answer, _ = self.evaluate(_ALLOWS_FAILURES, PreparedInput({}))
        except CodedError as error:
            raise InvalidRequest(f"the policy cannot be used: {error}") from error
        self.allows_failures = answer is True

    def evaluate(self, rule: str, question: PreparedInput) -> tuple[Json | Undefined, str]:
        """What `rule` says, and what the policy printed meanwhile, on one line.

        Raises CodedError (INTERNAL) if the engine fails: only now it sees that a rule has two values,
        calls an unknown function, or asks itself.
        """
        if rule not in self._rules:
            return UNDEFINED, ""
        with captured_output() as printed:
            try:
                if question.structured is not None:
                    self._engine.set_input(question.structured)
                else:
                    self._engine.set_input_term(question.text)
                output = self._engine.query_bundle_entrypoint(self._bundle, f"agent_policy/{rule}")
            except (regopy.RegoError, ValueError) as error:
                # Its report of an error, which regopy takes for JSON, is a page long.
                raise CodedError(
                    StatusCode.INTERNAL,
                    f"policy: {rule} cannot be evaluated: it may call an unknown function, or itself",
                ) from error
        if not output.ok():
            raise CodedError(
                StatusCode.INTERNAL, f"policy: {rule} has several values, or none that can be told"
            )
        values = output.results[0].expressions if output.results else []
        return (values[0] if values else UNDEFINED), one_line(printed)

    def with_changes(self, operations: Sequence[Json]) -> RegoPolicy:
        """The same policy after a JSON patch of its state. Raises CodedError (INTERNAL)."""
        try:
            state = patched(self._state, operations)
        except PatchError as error:
            raise CodedError(StatusCode.INTERNAL, f"policy: its change of state fails: {error}") from error
        return RegoPolicy(self._text, state)


@contextmanager
def captured_output() -> Iterator[bytearray]:
    """Have descriptor 1 write into the bytes that this gives, which are there after the block.

    The agent's log has a descriptor of its own (agent.log.own_stream), so it loses no line.
    """
    printed = bytearray()
    saved, memory = os.dup(1), os.memfd_create("policy", os.MFD_CLOEXEC)
    os.dup2(memory, 1, inheritable=True)
    try:
        yield printed
    finally:
        ctypes.CDLL(None).fflush(None)  # std::cout keeps its bytes in C's stdout
        os.dup2(saved, 1, inheritable=True)
        os.close(saved)
        printed += os.pread(memory, os.fstat(memory).st_size, 0)
        os.close(memory)


def one_line(printed: bytes | bytearray) -> str:
    """The last of what was printed, blanks for the ends of lines."""
    return " ".join(printed.decode(errors="replace").split())[-_LONGEST_PRINT:]


def _check_limits(text: str) -> None:
    lines = text.split("\n")
    if len(text.encode()) > _LONGEST_TEXT_BYTES or len(lines) > _MOST_LINES:
        raise InvalidRequest(f"a policy has at most {_LONGEST_TEXT_BYTES} bytes and {_MOST_LINES} lines")
    if any(len(line.encode()) > _LONGEST_LINE_BYTES for line in lines):
        raise InvalidRequest(f"a line of a policy has at most {_LONGEST_LINE_BYTES} bytes")
    if "\0" in text:
        raise InvalidRequest("a policy has no NUL bytes")
    if not _PACKAGE.search(text):
        raise InvalidRequest('a policy begins with "package agent_policy"')


def _complaint(report: str, text: str) -> str:
    """The engine's first complaint, with its line."""
    place, complaint = _PLACE.search(report), _COMPLAINT.search(report)
    line = text.encode()[: int(place[1])].count(b"\n") + 1 if place else 1
    return f"line {line}: {' '.join(complaint[1].split()) if complaint else 'syntax error'}"


def _examine(value: Json) -> tuple[bool, int]:
    """Whether the structured input would be exact, and the length of the longest list."""
    if isinstance(value, str):
        return "\0" not in value, 0
    if isinstance(value, bool) or value is None:
        return True, 0
    if isinstance(value, int):
        return -_SIGNED_64 <= value < _SIGNED_64, 0
    if isinstance(value, dict):
        parts = [*map(_examine, value), *map(_examine, value.values())]
        own = 0
    else:
        parts = [_examine(item) for item in value]
        own = len(value)
    return all(exact for exact, _ in parts), max([own, *(longest for _, longest in parts)])
