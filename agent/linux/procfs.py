"""Figures that the kernel shows in /proc, as numbers under names; no policy.

All functions take the directory where procfs is, read one file, and raise OSError if it cannot be
read, ValueError or IndexError if it is not what proc(5) describes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_KIB = 1024

_CPU_TIMES = (
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice",
)  # fmt: skip
_NETWORK_COUNTS = tuple(
    f"{direction}_{item}"
    for direction, items in (
        ("recv", ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")),
        ("sent", ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")),
    )
    for item in items
)
_DISK_COUNTS = (
    "reads", "merged", "sectors_read", "time_reading", "writes", "writes_merged", "sectors_written",
    "time_writing", "in_progress", "time_in_progress", "weighted_time_in_progress", "discards",
    "discards_merged", "sectors_discarded", "time_discarding", "flushes", "time_flushing",
)  # fmt: skip

# The words that a name in meminfo consists of: "SReclaimable", "NFS_Unstable", "DirectMap4k".
_WORD = re.compile(r"[0-9]+[A-Za-z]|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True, slots=True)
class LoadAverage:
    """The means over one, five and fifteen minutes, and the tasks that run and that exist."""

    load1: float
    load5: float
    load15: float
    running_tasks: int
    tasks: int


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """One process's threads, memory and times; the times are in clock ticks."""

    utime: int
    stime: int
    cutime: int
    cstime: int
    threads: int
    virtual_bytes: int
    resident_bytes: int

    @property
    def seconds(self) -> float:
        """The CPU time that the process itself has had."""
        return (self.utime + self.stime) / _TICKS_PER_SECOND


def load_average(procfs: str) -> LoadAverage:
    """proc_loadavg(5)."""
    one, five, fifteen, tasks, *_ = _text(procfs, "loadavg").split()
    running, _, existing = tasks.partition("/")
    return LoadAverage(float(one), float(five), float(fifteen), int(running), int(existing))


def memory(procfs: str) -> dict[str, int]:
    """proc_meminfo(5), in bytes but for counts of pages; `MemTotal` is `mem_total`."""
    figures = {}
    for line in _text(procfs, "meminfo").splitlines():
        name, value, *unit = line.split()
        figures[_snake_case(name)] = int(value) * (_KIB if unit == ["kB"] else 1)
    return figures


def virtual_memory(procfs: str) -> dict[str, int]:
    """proc_vmstat(5), under the kernel's names."""
    return {name: int(value) for name, value in map(str.split, _text(procfs, "vmstat").splitlines())}


def cpu_times_ms(procfs: str) -> dict[str, dict[str, float]]:
    """proc_stat(5): "total" and each CPU's number -> what it spent its time on, in milliseconds."""
    times = {}
    for line in _text(procfs, "stat").splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu"):
            spent = (int(each) * 1000 / _TICKS_PER_SECOND for each in ticks)
            times[name[3:] or "total"] = dict(zip(_CPU_TIMES, spent, strict=False))
    return times


def network_devices(procfs: str) -> dict[str, dict[str, int]]:
    """proc_pid_net(5), `dev`: interface -> counts of what it received and sent."""
    _, _, *lines = _text(procfs, "net/dev").splitlines()
    counts = (line.rpartition(":") for line in lines)
    return {name.strip(): _counts(_NETWORK_COUNTS, values.split()) for name, _, values in counts}


def disks(procfs: str) -> dict[str, dict[str, int]]:
    """Documentation/admin-guide/iostats.rst: disk or partition -> counts; times in milliseconds."""
    lines = (line.split() for line in _text(procfs, "diskstats").splitlines())
    return {name: _counts(_DISK_COUNTS, counts) for _, _, name, *counts in lines}


def process_times(procfs: str, pid: str = "self") -> ProcessTimes:
    """proc_pid_stat(5). The command's name, which may hold anything, is passed over."""
    fields = _text(procfs, f"{pid}/stat").rpartition(")")[2].split()
    numbers = [int(each) for each in fields[1:]]
    utime, stime, cutime, cstime = numbers[10:14]  # the manual's fields 14 to 17; `numbers` begins at 4
    return ProcessTimes(
        utime=utime,
        stime=stime,
        cutime=cutime,
        cstime=cstime,
        threads=numbers[16],
        virtual_bytes=numbers[19],
        resident_bytes=numbers[20] * os.sysconf("SC_PAGE_SIZE"),
    )


def process_io(procfs: str, pid: str = "self") -> dict[str, int]:
    """proc_pid_io(5)."""
    return {name: int(value) for name, value in _pairs(_text(procfs, f"{pid}/io"))}


def process_memory(procfs: str, pid: str = "self") -> dict[str, int]:
    """proc_pid_status(5): sizes (in KiB) and context switches; `VmPeak` is `vmpeak`."""
    status = ((name.lower(), value.split()) for name, value in _pairs(_text(procfs, f"{pid}/status")))
    return {
        name: int(value[0]) for name, value in status if value[1:] == ["kB"] or name.endswith("ctxt_switches")
    }


def _text(procfs: str, name: str) -> str:
    return Path(procfs, name).read_text(encoding="ascii", errors="replace")


def _pairs(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        yield name, value.strip()


def _counts(names: Iterable[str], values: Iterable[str]) -> dict[str, int]:
    """An older kernel has fewer columns, a newer one perhaps more."""
    return {name: int(value) for name, value in zip(names, values, strict=False)}


def _snake_case(name: str) -> str:
    name = name.replace("HugePages", "Hugepages").replace("Percpu", "PerCpu")
    words = _WORD.findall(name)
    return "_".join(word if word[0].isdigit() else word.lower() for word in words)
