"""agent.log: the fields a Kata host's log reader looks for, in both formats."""

from __future__ import annotations

import datetime
import io
import json
import logging
import os
from collections.abc import Iterator

import pytest

from agent import log
from agent.config import AgentConfig


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("agent")
    before = (root.handlers[:], root.level, ours.level)
    flags = (logging.logThreads, logging.logProcesses, logging.logMultiprocessing)
    yield
    root.handlers[:], root.level, ours.level = before[0], before[1], before[2]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags
    log.set_sandbox("")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _configured(stream: io.StringIO, **options: str) -> logging.Logger:
    log.configure(AgentConfig(**options), stream=stream)  # type: ignore[arg-type]  # only texts are given
    return logging.getLogger("agent.storage")


def _records(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.usefixtures("restored_logging")
class TestJson:
    def test_fields_of_a_record(self) -> None:
        stream = io.StringIO()
        _configured(stream).info("mounted %s", "/run/x", extra={"driver": "blk"})
        (record,) = _records(stream)
        moment = datetime.datetime.fromisoformat(str(record.pop("time")))
        assert abs(moment - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
        assert record == {
            "level": "info",
            "msg": "mounted /run/x",
            "name": "kata-agent",
            "pid": str(os.getpid()),
            "source": "agent",
            "subsystem": "storage",
            "driver": "blk",
        }

    def test_sandbox_and_request_once_they_are_known(self) -> None:
        stream = io.StringIO()
        logger = _configured(stream)
        log.set_sandbox("s1")
        token = log.request_name.set("CreateContainer")
        logger.warning("first")
        log.request_name.reset(token)
        log.set_sandbox("")
        logger.warning("second")
        first, second = _records(stream)
        assert (first["sandbox"], first["request"], first["level"]) == ("s1", "CreateContainer", "warning")
        assert "sandbox" not in second
        assert "request" not in second

    def test_an_author_cannot_pose_as_another_program(self) -> None:
        stream = io.StringIO()
        _configured(stream).info("x", extra={"source": "shim", "subsystem": "y"})
        (record,) = _records(stream)
        assert record["source"] == "agent"
        assert record["subsystem"] == "storage"

    def test_a_record_stays_on_one_line(self) -> None:
        stream = io.StringIO()
        logger = _configured(stream)
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("a\nb", extra={"raw": b"\xff"})
        (record,) = _records(stream)
        assert record["msg"] == "a\nb"
        assert "ValueError: two" in str(record["error"])

    def test_level_decides_what_is_written(self) -> None:
        stream = io.StringIO()
        logger = _configured(stream, log_level="warning")
        logger.info("not this")
        logger.error("this")
        logging.getLogger("somebody.else").info("nor this")
        assert [record["msg"] for record in _records(stream)] == ["this"]

    def test_configuring_twice_does_not_write_twice(self) -> None:
        first, second = io.StringIO(), io.StringIO()
        _configured(first)
        _configured(second).info("once")
        assert first.getvalue() == ""
        assert len(_records(second)) == 1


@pytest.mark.usefixtures("restored_logging")
class TestText:
    def test_a_terminal_gets_words(self) -> None:
        stream = _Terminal()
        _configured(stream).info("it is up", extra={"address": "vsock://-1:1024", "z": 1, "a": 'say "so"'})
        time, _, rest = stream.getvalue().partition(" ")
        assert time.startswith('time="2')
        assert rest == (
            'level=info msg="it is up" a="say \\"so\\"" address="vsock://-1:1024" name=kata-agent'
            f" pid={os.getpid()} source=agent subsystem=storage z=1\n"
        )

    def test_the_format_can_be_asked_for(self) -> None:
        stream = io.StringIO()
        _configured(stream, log_format="text").info("x")
        assert " msg=x " in stream.getvalue()


@pytest.mark.usefixtures("restored_logging")
class TestSpan:
    def test_started_and_completed(self) -> None:
        stream = io.StringIO()
        logger = _configured(stream, log_level="debug")
        with log.span(logger, "mount", target="/x"):
            pass
        started, completed = _records(stream)
        assert (started["msg"], started["target"]) == ("mount started", "/x")
        assert completed["msg"] == "mount completed"
        assert isinstance(completed["duration_s"], float)

    def test_failed_with_the_reason_and_the_error_goes_on(self) -> None:
        stream = io.StringIO()
        logger = _configured(stream, log_level="debug")
        with pytest.raises(OSError, match="busy"), log.span(logger, "umount"):
            raise OSError("busy")
        failed = _records(stream)[-1]
        assert (failed["msg"], failed["error"]) == ("umount failed", "OSError: busy")

    def test_silent_above_debug(self) -> None:
        stream = io.StringIO()
        with log.span(_configured(stream), "mount"):
            pass
        assert stream.getvalue() == ""
