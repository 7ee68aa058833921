"""ps options and the table they make."""

from __future__ import annotations

import os
import subprocess

import pytest

from agent.errors import InvalidRequest
from agent.processes.ps import clock, parse_options, process_table


@pytest.mark.parametrize(
    ("arguments", "titles"),
    [
        (["-ef"], "UID PID PPID C STIME TTY TIME CMD"),
        (["-A"], "PID TTY TIME CMD"),
        (["aux"], "USER PID %CPU %MEM VSZ RSS TTY STAT STIME TIME CMD"),
        (["-eo", "pid,args"], "PID CMD"),
        (["-e", "-opid", "-o", "comm=What is it"], "PID What is it"),
        (["-o", "pid ppid,%cpu"], "PID PPID %CPU"),
        (["--format", "pid,etime"], "PID ELAPSED"),
        (["--format=user,pid"], "USER PID"),
        (["-ww", "-ef"], "UID PID PPID C STIME TTY TIME CMD"),
    ],
)
def test_options(arguments: list[str], titles: str) -> None:
    assert " ".join(column.title for column in parse_options(arguments)) == titles


@pytest.mark.parametrize("arguments", [["-Z"], ["-o"], ["--format"], ["--sort=pid"], ["-o", "pid,nothing"]])
def test_bad_options(arguments: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        parse_options(arguments)


def test_a_table_needs_the_process_id() -> None:
    with pytest.raises(InvalidRequest, match="no column PID"):
        process_table([os.getpid()], ["-o", "user,comm"])


def test_the_table() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        try:
            table = process_table([os.getpid(), child.pid], ["-eo", "pid,ppid,stat,args"])
            rows = [line.split(maxsplit=3) for line in table.splitlines()]
            assert rows[0] == ["PID", "PPID", "STAT", "CMD"]
            assert rows[2][:2] == [str(child.pid), str(os.getpid())]
            assert rows[2][2:] in (["S", "sleep 1000"], ["R", "sleep 1000"])
        finally:
            child.kill()
    gone = process_table([child.pid], ())
    assert gone.splitlines() == [" ".join(["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"])]


@pytest.mark.parametrize("column", ["user", "uid", "gid", "c", "%mem", "vsz", "rss", "ni", "nlwp", "tty"])
def test_every_column_can_be_filled(column: str) -> None:
    title, line = process_table([os.getpid()], ["-o", f"{column},pid"]).splitlines()
    assert len(title.split()) == len(line.split()) == 2


def test_a_zombie_is_shown() -> None:
    child = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        line = process_table([child.pid], ["-eo", "pid,stat,args"]).splitlines()[1]
        assert line.split(maxsplit=2) == [str(child.pid), "Z", "[true] <defunct>"]
    finally:
        child.wait()


@pytest.mark.parametrize(("seconds", "text"), [(0, "00:00:00"), (3661, "01:01:01"), (90061, "1-01:01:01")])
def test_times(seconds: int, text: str) -> None:
    assert clock(seconds) == text
