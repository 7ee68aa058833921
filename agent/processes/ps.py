"""Processes as ps(1) shows them, for the hosts that hand its options through (Kata 1.x).

The guest's own ps is not asked: a small image has one that knows two options, and it would go through
every process of the guest. Of the options of procps-ng's ps(1), those that choose processes are taken
and change nothing, since all of a container's are wanted; those that choose columns are `-f`, `u` and
`-o`. Imported on first use, because psutil is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import psutil

from agent.errors import InvalidRequest

Cell = Callable[[psutil.Process], str]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: its title, what stands in it, and whether that is a number."""

    title: str
    cell: Cell
    is_number: bool = False


# What -f, u and no option at all show (ps(1), "OUTPUT FORMAT CONTROL").
_FULL = ("user=UID", "pid", "ppid", "c", "stime", "tty", "time", "cmd")
_USER = ("user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "start", "time", "command")
_PLAIN = ("pid", "tty", "time", "comm=CMD")

# What 1.x hosts send when their caller names no options.
_DEFAULT = ("-ef",)

_DAY_S = 86400


def process_table(pids: Iterable[int], arguments: Sequence[str]) -> str:
    """A line of titles and one line for each process of `pids` that is still there.

    `arguments` are ps options. Raises InvalidRequest for one that is not known, or a choice of
    columns without the process id, by which hosts tell the lines apart. Blocks for a few procfs files
    per process.
    """
    columns = parse_options(arguments or _DEFAULT)
    if not any(column.title == "PID" for column in columns):
        raise InvalidRequest(f"ps {' '.join(arguments)} shows no column PID")
    rows = [[column.title for column in columns]]
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                rows.append([column.cell(process) for column in columns])
        except psutil.NoSuchProcess:
            continue
    return _layout(rows, columns)


def parse_options(arguments: Sequence[str]) -> list[Column]:
    """The columns that ps options ask for. Raises InvalidRequest."""
    chosen: Sequence[str] = _PLAIN
    listed: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument.startswith("--"):
            name, is_given, value = argument[2:].partition("=")
            if name != "format" or not (is_given or left):
                raise InvalidRequest(f"ps option {argument} is not known")
            listed += _names(value if is_given else left.pop(0))
            continue
        letters = argument.lstrip("-")
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter == "o":  # takes the rest of the word, or the next one
                if not letters and not left:
                    raise InvalidRequest("ps option o needs a list of columns")
                listed += _names(letters or left.pop(0))
                letters = ""
            elif letter == "f":
                chosen = _FULL
            elif letter == "u" and not argument.startswith("-"):
                chosen = _USER
            elif letter not in "eAadxgww":
                raise InvalidRequest(f"ps option {letter} of {argument} is not known")
    return [_column(name) for name in listed or chosen]


def _names(text: str) -> list[str]:
    """A list of columns; "name=TITLE" ends one, as everything behind the sign is the title."""
    before, is_titled, title = text.partition("=")
    names = before.replace(",", " ").split()
    if is_titled and names:
        names[-1] += f"={title}"
    return names


def _column(name: str) -> Column:
    name, is_titled, title = name.partition("=")
    column = _COLUMNS.get(_ALIASES.get(name, name))
    if column is None:
        raise InvalidRequest(f"ps has no column {name}; it has {', '.join(sorted(_COLUMNS))}")
    return Column(title, column.cell, column.is_number) if is_titled else column


def _layout(rows: Sequence[Sequence[str]], columns: Sequence[Column]) -> str:
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        lines.append(" ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or f"[{process.name()}]"
    except psutil.ZombieProcess:
        return f"[{process.name()}] <defunct>"


def _state(process: psutil.Process) -> str:
    """The letter of ps(1), "PROCESS STATE CODES"; psutil has words."""
    return _STATES.get(process.status(), "?")


def _cpu_time(process: psutil.Process) -> str:
    times = process.cpu_times()
    return clock(int(times.user + times.system))


def _elapsed(process: psutil.Process) -> str:
    text = clock(max(0, int(time.time() - process.create_time())))
    return text.removeprefix("00:")


def _started(process: psutil.Process) -> str:
    began = process.create_time()
    return time.strftime("%H:%M" if time.time() - began < _DAY_S else "%b%d", time.localtime(began))


def _cpu_share(process: psutil.Process) -> float:
    """CPU time over life time, in percent, as ps means it."""
    times = process.cpu_times()
    return 100 * (times.user + times.system) / max(time.time() - process.create_time(), 0.01)


def clock(seconds: int) -> str:
    """[days-]hours:minutes:seconds, as ps writes TIME and ELAPSED."""
    days, rest = divmod(seconds, _DAY_S)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text


_STATES = {
    psutil.STATUS_RUNNING: "R",
    psutil.STATUS_SLEEPING: "S",
    psutil.STATUS_DISK_SLEEP: "D",
    psutil.STATUS_STOPPED: "T",
    psutil.STATUS_TRACING_STOP: "t",
    psutil.STATUS_ZOMBIE: "Z",
    psutil.STATUS_DEAD: "X",
    psutil.STATUS_IDLE: "I",
}

_ALIASES = {
    "args": "cmd",
    "command": "cmd",
    "ucmd": "comm",
    "euser": "user",
    "uname": "user",
    "euid": "uid",
    "egid": "gid",
    "state": "stat",
    "s": "stat",
    "tt": "tty",
    "tname": "tty",
    "cputime": "time",
    "start": "stime",
    "start_time": "stime",
    "bsdstart": "stime",
    "%cpu": "pcpu",
    "%mem": "pmem",
    "rssize": "rss",
    "rsz": "rss",
    "vsize": "vsz",
    "nice": "ni",
    "thcount": "nlwp",
}

_COLUMNS = {
    "pid": Column("PID", lambda p: str(p.pid), is_number=True),
    "ppid": Column("PPID", lambda p: str(p.ppid()), is_number=True),
    "user": Column("USER", lambda p: p.username()),
    "uid": Column("UID", lambda p: str(p.uids().effective), is_number=True),
    "gid": Column("GID", lambda p: str(p.gids().effective), is_number=True),
    "c": Column("C", lambda p: str(int(_cpu_share(p))), is_number=True),
    "pcpu": Column("%CPU", lambda p: f"{_cpu_share(p):.1f}", is_number=True),
    "pmem": Column("%MEM", lambda p: f"{p.memory_percent():.1f}", is_number=True),
    "vsz": Column("VSZ", lambda p: str(p.memory_info().vms // 1024), is_number=True),
    "rss": Column("RSS", lambda p: str(p.memory_info().rss // 1024), is_number=True),
    "ni": Column("NI", lambda p: str(p.nice()), is_number=True),
    "nlwp": Column("NLWP", lambda p: str(p.num_threads()), is_number=True),
    "tty": Column("TTY", lambda p: (p.terminal() or "?").removeprefix("/dev/")),
    "stat": Column("STAT", _state),
    "stime": Column("STIME", _started),
    "etime": Column("ELAPSED", _elapsed, is_number=True),
    "time": Column("TIME", _cpu_time),
    "comm": Column("COMMAND", lambda p: p.name()),
    "cmd": Column("CMD", _command),
}
