"""Structured log records, as a Kata host's log reader expects them.

Everybody writes `logging.getLogger("agent.<area>")`, plain sentences, and fields by `extra=`.
The fields `name`, `pid`, `source`, `subsystem`, `sandbox` and `request` are added here
(kata-containers/agent agent.go, kata-containers src/libs/logging).
"""

from __future__ import annotations

import contextvars
import datetime
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal, Protocol

from agent.config import AgentConfig

request_name: contextvars.ContextVar[str] = contextvars.ContextVar("request_name", default="")
"""The RPC that the current task serves; empty outside of one."""

TRACE = 5
_LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_LEVEL_WORDS = {number: word for word, number in _LEVELS.items()}
_ROOT = "agent"
# Every attribute that a LogRecord has by itself; what else it carries came in by `extra=`.
_OWN_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
# What logrus leaves unquoted: a reader of 1.x logs splits at blanks.
_PLAIN = re.compile(r"[a-zA-Z0-9\-._/@^+]+", re.ASCII)


class RecordStream(Protocol):
    """What records are written to: a text stream, or what takes them as one does."""

    def write(self, text: str, /) -> object:
        """Take one record, with the end of its line."""

    def flush(self) -> object:
        """Hold nothing back."""

    def isatty(self) -> bool:
        """Whether a person reads along."""


class _Fields(logging.Filter):
    """Gives each record the fields that do not come from its author."""

    def __init__(self) -> None:
        super().__init__()
        self.sandbox = ""

    def filter(self, record: logging.LogRecord) -> Literal[True]:
        record.__dict__["fields"] = self.of(record)
        return True

    def of(self, record: logging.LogRecord) -> dict[str, Any]:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        fields: dict[str, Any] = {
            "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": _LEVEL_WORDS.get(record.levelno, record.levelname.lower()),
            "msg": record.getMessage(),
            "name": "kata-agent",
            "pid": str(os.getpid()),  # 4.x writes it as a string
            "source": "agent",
            "subsystem": record.name.removeprefix(f"{_ROOT}."),
        }
        if self.sandbox:
            fields["sandbox"] = self.sandbox
        if request := request_name.get():
            fields["request"] = request
        for name, value in record.__dict__.items():
            if name not in _OWN_ATTRIBUTES and name not in fields:
                fields[name] = value
        return fields


_fields = _Fields()


class TextFormatter(logging.Formatter):
    """One record as `key=value` words, in the order and with the quotes of a 1.x agent."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields = dict(record.__dict__["fields"])
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        first = ("time", "level", "msg")
        return " ".join(
            f"{key}={_quoted(fields[key])}" for key in (*first, *sorted(fields.keys() - set(first)))
        )


def json_formatter() -> logging.Formatter:
    """A formatter that writes one JSON object a record, by python-json-logger."""
    from pythonjsonlogger.json import JsonFormatter  # costs as much as asyncio; text needs none of it

    class Formatter(JsonFormatter):
        """The fields of `_Fields` alone, in their order."""

        def add_fields(
            self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
        ) -> None:
            log_data.update(record.__dict__["fields"])
            if exception := message_dict.get("exc_info"):
                log_data["error"] = exception

    return Formatter()


def configure(config: AgentConfig, *, stream: RecordStream) -> None:
    """Send the agent's records to `stream`, in the format and from the level that `config` says.

    May be called again; the last call counts. Records of other packages pass from `warning` on.
    """
    text = config.log_format == "text" or (config.log_format == "auto" and stream.isatty())
    handler: logging.Handler = logging.StreamHandler(stream)
    handler.addFilter(_fields)
    handler.setFormatter(TextFormatter() if text else json_formatter())
    logging.addLevelName(TRACE, "TRACE")
    # No reader wants them, and each costs a look at the interpreter's frames or threads.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(_LEVELS[config.log_level])


def own_stream(stream: IO[str]) -> IO[str]:
    """`stream` on a descriptor of the log's own.

    So descriptor 1 can be pointed elsewhere while a library prints there, and no record goes with it
    (agent.service.rego). A stream without a descriptor is returned as it is.
    """
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError):
        return stream
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace")


def set_sandbox(sandbox_id: str) -> None:
    """Add `sandbox_id` to every record from now on; an empty one ends that."""
    _fields.sandbox = sandbox_id


@contextmanager
def span(logger: logging.Logger, name: str, **fields: object) -> Iterator[None]:
    """Log that `name` started, and that it completed or failed, with its duration, at debug."""
    if not logger.isEnabledFor(logging.DEBUG):
        yield
        return
    logger.debug("%s started", name, extra=fields)
    began = time.monotonic()
    try:
        yield
    except BaseException as error:
        lasted = {
            "duration_s": round(time.monotonic() - began, 6),
            "error": f"{type(error).__name__}: {error}",
        }
        logger.debug("%s failed", name, extra={**fields, **lasted})
        raise
    logger.debug("%s completed", name, extra={**fields, "duration_s": round(time.monotonic() - began, 6)})


def _quoted(value: object) -> str:
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
