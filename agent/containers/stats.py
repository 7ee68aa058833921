"""What a container has used: the figures that hosts ask for, whichever cgroup version they come from.

`stats_v1` and `stats_v2` make them from the text of a cgroup's files, without touching the files
themselves. A part whose controller the guest does not have is None: absent, which is not zero.

Sources: the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst; which file feeds which
field: opencontainers/runc libcontainer/cgroups (1.x hosts), kata-containers src/agent/rustjail 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

NO_LIMIT = 2**64 - 1
"""What "max" becomes in a field that is an unsigned number: -1, as the reference agents cast it."""

ReadFile = Callable[[str, str], str | None]
"""The text of a controller's file in the container's cgroup (`"memory", "memory.stat"`), or None."""


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """CPU time in nanoseconds; `per_cpu_ns` is empty where the kernel does not tell (v2)."""

    total_ns: int = 0
    user_ns: int = 0
    kernel_ns: int = 0
    per_cpu_ns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CpuThrottling:
    """How often the CPU quota has run out, in periods, and for how long all in all."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Bytes now and at most, how often the limit was hit, and the limit in bytes."""

    usage: int = 0
    max_usage: int = 0
    failures: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Memory; on v1 `swap` counts memory and swap together. `counters` is all of memory.stat."""

    cache: int
    usage: MemoryUsage
    swap: MemoryUsage | None = None
    kernel: MemoryUsage | None = None
    use_hierarchy: bool = False
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PidsStats:
    """Processes and threads; a `limit` of 0 stands for none."""

    current: int
    limit: int


@dataclass(frozen=True, slots=True)
class BlockIoEntry:
    """One count of one block device. The operation's name is in lower case, empty if there is none."""

    major: int
    minor: int
    operation: str
    value: int


@dataclass(frozen=True, slots=True)
class BlockIoStats:
    """Block I/O: bytes, operations, nanoseconds (times) and 512-byte sectors, by device."""

    service_bytes: tuple[BlockIoEntry, ...] = ()
    serviced: tuple[BlockIoEntry, ...] = ()
    queued: tuple[BlockIoEntry, ...] = ()
    service_time: tuple[BlockIoEntry, ...] = ()
    wait_time: tuple[BlockIoEntry, ...] = ()
    merged: tuple[BlockIoEntry, ...] = ()
    time: tuple[BlockIoEntry, ...] = ()
    sectors: tuple[BlockIoEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class HugepageStats:
    """Bytes of one size of huge pages; what v2 does not count is 0."""

    usage: int
    max_usage: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class CgroupStats:
    """All that a cgroup tells of its container; huge pages by the kernel's name of their size (2MB)."""

    cpu_usage: CpuUsage | None = None
    throttling: CpuThrottling | None = None
    memory: MemoryStats | None = None
    pids: PidsStats | None = None
    block_io: BlockIoStats | None = None
    hugepages: Mapping[str, HugepageStats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NetworkStats:
    """What one interface has received and sent since it was made."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """A container's figures. The network's are those of its namespace, which is the whole guest's."""

    cgroup: CgroupStats
    network: tuple[NetworkStats, ...] = ()


def number(text: str | None) -> int:
    """A file that holds one number: `max` is NO_LIMIT, a missing file 0."""
    if text is None:
        return 0
    return NO_LIMIT if text.strip() == "max" else int(text)


def flat_keyed(text: str | None) -> dict[str, int]:
    """A file of lines "name number" (cgroup-v2.rst, "flat keyed"); a missing one is empty."""
    pairs = (line.split() for line in (text or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def pids_stats(read: ReadFile) -> PidsStats | None:
    """The pids controller has the same files in both versions."""
    current = read("pids", "pids.current")
    if current is None:
        return None
    limit = number(read("pids", "pids.max"))
    return PidsStats(int(current), 0 if limit == NO_LIMIT else limit)


def network_stats(proc_net_dev: str) -> tuple[NetworkStats, ...]:
    """The interfaces of /proc/PID/net/dev (proc_pid_net(5)) but the loopback."""
    found = []
    for line in proc_net_dev.splitlines()[2:]:
        name, _, counts = line.partition(":")
        values = [int(value) for value in counts.split()]
        if name.strip() != "lo":
            found.append(NetworkStats(name.strip(), *values[:4], *values[8:12]))
    return tuple(found)
