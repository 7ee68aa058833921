"""A container's figures from cgroup v2, the unified hierarchy. Pure.

Source: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.containers.stats import (
    BlockIoEntry,
    BlockIoStats,
    CgroupStats,
    CpuThrottling,
    CpuUsage,
    HugepageStats,
    MemoryStats,
    MemoryUsage,
    ReadFile,
    flat_keyed,
    number,
    pids_stats,
)

_NS_PER_US = 1000

# io.stat's keys and the names under which hosts know them; any other key is left out.
_OPERATIONS = {
    "rbytes": "read",
    "wbytes": "write",
    "rios": "rios",
    "wios": "wios",
    "dbytes": "dbytes",
    "dios": "dios",
}


def cgroup_stats(read: ReadFile, *, page_sizes: Iterable[str]) -> CgroupStats:
    """The figures of one container; `page_sizes` are the names of the guest's sizes of huge pages."""
    cpu_stat = read("cpu", "cpu.stat")
    counters = flat_keyed(cpu_stat)
    return CgroupStats(
        cpu_usage=None if cpu_stat is None else _cpu_usage(counters),
        throttling=_throttling(counters) if "nr_periods" in counters else None,
        memory=_memory(read),
        pids=pids_stats(read),
        block_io=_block_io(read("io", "io.stat")),
        hugepages={size: stats for size in page_sizes if (stats := _hugepages(read, size)) is not None},
    )


def _cpu_usage(counters: dict[str, int]) -> CpuUsage:
    """The kernel counts time even where the cpu controller is off."""
    return CpuUsage(
        total_ns=counters.get("usage_usec", 0) * _NS_PER_US,
        user_ns=counters.get("user_usec", 0) * _NS_PER_US,
        kernel_ns=counters.get("system_usec", 0) * _NS_PER_US,
    )


def _throttling(counters: dict[str, int]) -> CpuThrottling:
    """The 4.x agent looks for the time under its v1 name and tells 0; here it is told."""
    return CpuThrottling(
        periods=counters["nr_periods"],
        throttled_periods=counters.get("nr_throttled", 0),
        throttled_ns=counters.get("throttled_usec", 0) * _NS_PER_US,
    )


def _memory(read: ReadFile) -> MemoryStats | None:
    usage = _memory_usage(read, "memory")
    if usage is None:
        return None
    counters = flat_keyed(read("memory", "memory.stat"))
    return MemoryStats(
        cache=counters.get("file", 0),  # page cache, the successor of v1's `cache`
        usage=usage,
        swap=_memory_usage(read, "memory.swap"),
        kernel=MemoryUsage(usage=counters["kernel"]) if "kernel" in counters else None,  # Linux 5.18
        counters=counters,
    )


def _memory_usage(read: ReadFile, prefix: str) -> MemoryUsage | None:
    usage = read("memory", f"{prefix}.current")
    if usage is None:
        return None
    return MemoryUsage(
        usage=int(usage),
        max_usage=number(read("memory", f"{prefix}.peak")),  # Linux 5.19, for swap 6.5
        failures=flat_keyed(read("memory", f"{prefix}.events")).get("max", 0),
        limit=number(read("memory", f"{prefix}.max")),
    )


def _block_io(io_stat: str | None) -> BlockIoStats | None:
    """All of io.stat stands in one list, told apart by the operation's name, as the 4.x agent has it."""
    if io_stat is None:
        return None
    entries = []
    for line in io_stat.splitlines():
        device, _, pairs = line.partition(" ")
        major, _, minor = device.partition(":")
        for pair in pairs.split():
            key, _, value = pair.partition("=")
            if key in _OPERATIONS:
                entries.append(BlockIoEntry(int(major), int(minor), _OPERATIONS[key], int(value)))
    return BlockIoStats(service_bytes=tuple(entries))


def _hugepages(read: ReadFile, size: str) -> HugepageStats | None:
    usage = read("hugetlb", f"hugetlb.{size}.current")
    if usage is None:
        return None
    events = flat_keyed(read("hugetlb", f"hugetlb.{size}.events"))
    return HugepageStats(usage=int(usage), failures=events.get("max", 0))
