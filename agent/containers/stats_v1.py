"""A container's figures from cgroup v1, one hierarchy per controller. Pure.

Source: Documentation/admin-guide/cgroup-v1/{cpuacct,memory,blkio-controller,hugetlb}.rst.
"""

from __future__ import annotations

import re
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

_NS_PER_S = 1_000_000_000

# "8:0 Read 4096", and for times and sectors "8:0 17"; the line of the sum names no device.
_DEVICE_LINE = re.compile(r"(\d+):(\d+)(?: (\w+))? (\d+)")


def cgroup_stats(read: ReadFile, *, ticks_per_s: int, page_sizes: Iterable[str]) -> CgroupStats:
    """The figures of one container.

    `ticks_per_s` is the unit of cpuacct.stat (USER_HZ, time(7)); `page_sizes` are the names of the
    guest's sizes of huge pages.
    """
    cpu_stat = read("cpu", "cpu.stat")
    return CgroupStats(
        cpu_usage=_cpu_usage(read, ticks_per_s),
        throttling=None if cpu_stat is None else _throttling(flat_keyed(cpu_stat)),
        memory=_memory(read),
        pids=pids_stats(read),
        block_io=_block_io(read),
        hugepages={size: stats for size in page_sizes if (stats := _hugepages(read, size)) is not None},
    )


def _cpu_usage(read: ReadFile, ticks_per_s: int) -> CpuUsage | None:
    total = read("cpuacct", "cpuacct.usage")
    if total is None:
        return None
    split = flat_keyed(read("cpuacct", "cpuacct.stat"))
    return CpuUsage(
        total_ns=int(total),
        user_ns=split.get("user", 0) * _NS_PER_S // ticks_per_s,
        kernel_ns=split.get("system", 0) * _NS_PER_S // ticks_per_s,
        per_cpu_ns=tuple(map(int, (read("cpuacct", "cpuacct.usage_percpu") or "").split())),
    )


def _throttling(counters: dict[str, int]) -> CpuThrottling:
    return CpuThrottling(
        periods=counters.get("nr_periods", 0),
        throttled_periods=counters.get("nr_throttled", 0),
        throttled_ns=counters.get("throttled_time", 0),
    )


def _memory(read: ReadFile) -> MemoryStats | None:
    usage = _memory_usage(read, "memory")
    if usage is None:
        return None
    counters = flat_keyed(read("memory", "memory.stat"))
    return MemoryStats(
        cache=counters.get("cache", 0),
        usage=usage,
        swap=_memory_usage(read, "memory.memsw"),
        kernel=_memory_usage(read, "memory.kmem"),
        use_hierarchy=number(read("memory", "memory.use_hierarchy")) == 1,
        counters=counters,
    )


def _memory_usage(read: ReadFile, prefix: str) -> MemoryUsage | None:
    usage = read("memory", f"{prefix}.usage_in_bytes")
    if usage is None:  # no swap accounting, no accounting of kernel memory
        return None
    return MemoryUsage(
        usage=int(usage),
        max_usage=number(read("memory", f"{prefix}.max_usage_in_bytes")),
        failures=number(read("memory", f"{prefix}.failcnt")),
        limit=number(read("memory", f"{prefix}.limit_in_bytes")),
    )


def _block_io(read: ReadFile) -> BlockIoStats | None:
    """Whichever I/O scheduler counts fills the fields; the throttling layer counts without any."""
    if read("blkio", "blkio.throttle.io_serviced") is None and read("blkio", "blkio.io_serviced") is None:
        return None

    def entries(name: str, *prefixes: str) -> tuple[BlockIoEntry, ...]:
        for prefix in ("blkio", "blkio.bfq", *prefixes):
            found = _device_entries(read("blkio", f"{prefix}.{name}_recursive"))
            if found:
                return found
        return ()

    # Without the recursive files (before Linux 4.15) the throttling layer counts this cgroup alone.
    return BlockIoStats(
        service_bytes=entries("io_service_bytes", "blkio.throttle")
        or _device_entries(read("blkio", "blkio.throttle.io_service_bytes")),
        serviced=entries("io_serviced", "blkio.throttle")
        or _device_entries(read("blkio", "blkio.throttle.io_serviced")),
        queued=entries("io_queued"),
        service_time=entries("io_service_time"),
        wait_time=entries("io_wait_time"),
        merged=entries("io_merged"),
        time=entries("time"),
        sectors=entries("sectors"),
    )


def _device_entries(text: str | None) -> tuple[BlockIoEntry, ...]:
    matches = (_DEVICE_LINE.fullmatch(line.strip()) for line in (text or "").splitlines())
    return tuple(
        BlockIoEntry(int(match[1]), int(match[2]), (match[3] or "").lower(), int(match[4]))
        for match in matches
        if match
    )


def _hugepages(read: ReadFile, size: str) -> HugepageStats | None:
    usage = read("hugetlb", f"hugetlb.{size}.usage_in_bytes")
    if usage is None:
        return None
    return HugepageStats(
        usage=int(usage),
        max_usage=number(read("hugetlb", f"hugetlb.{size}.max_usage_in_bytes")),
        failures=number(read("hugetlb", f"hugetlb.{size}.failcnt")),
    )
