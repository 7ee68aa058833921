"""What the commands share in how they read their arguments."""

from __future__ import annotations

import enum
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import click

from host.errors import HostError, InvalidInput

E = TypeVar("E", bound=enum.StrEnum)


class EnumChoice(click.ParamType[E], Generic[E]):
    """One of the values of a StrEnum."""

    name = "choice"

    def __init__(self, kind: type[E]) -> None:
        self._kind = kind

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> E:
        """The member whose value is `value`."""
        try:
            return self._kind(str(value))
        except ValueError:
            self.fail(f"{value!r} is not one of {', '.join(self._kind)}.", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """All values, as click shows a choice."""
        return f"[{'|'.join(self._kind)}]"


def failing_with_125(command: Callable[..., int]) -> Callable[..., int]:
    """Give the errors of pykata itself the exit status 125, apart from the command's own (docker's rule)."""

    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> int:  # noqa: ANN401 - passed through
        try:
            return command(*args, **options)
        except HostError as error:
            if not hasattr(error, "status"):
                error.status = 125  # type: ignore[attr-defined]  # read by host.cli.main
            raise

    return wrapped


def command_after(words: Sequence[str]) -> tuple[str, ...]:
    """The command without the `--` that may stand before it."""
    return tuple(words[1:] if words and words[0] == "--" else words)


def environment(items: Sequence[str]) -> tuple[str, ...]:
    """The variables as K=V: one without a value takes it from our own environment, or is left out.

    Raises InvalidInput for one without a name.
    """
    found = []
    for item in items:
        name, sign, _ = item.partition("=")
        if not name:
            raise InvalidInput(f"{item!r} sets no variable", "write K=V")
        if sign:
            found.append(item)
        elif name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return tuple(found)


def check_terminal(*, interactive: bool, tty: bool) -> None:
    """Raise InvalidInput where a terminal is asked for and standard input is none (docker's rule)."""
    if tty and interactive and not sys.stdin.isatty():
        raise InvalidInput("standard input is not a terminal", "leave out -t")
