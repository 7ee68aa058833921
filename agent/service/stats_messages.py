"""A container's figures as a `StatsContainerResponse`, whose fields are the same in both generations.

What differs is how operations on block devices are named and listed; `kata1` brings its own view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, TypeAlias

from agent.containers.stats import (
    BlockIoEntry,
    BlockIoStats,
    CgroupStats,
    ContainerStats,
    MemoryStats,
    MemoryUsage,
)

Message: TypeAlias = Any  # a message of either generation: the two have no type in common
Schema: TypeAlias = Any  # the module protos.kata1 or protos.kata2

BlockIoView = Callable[[BlockIoStats], BlockIoStats]


def encode_stats(schema: Schema, answer: ContainerStats, *, block_io_view: BlockIoView) -> Message:
    """A `StatsContainerResponse`; what the guest does not count stays unset."""
    return schema.StatsContainerResponse(
        cgroup_stats=_cgroup(schema, answer.cgroup, block_io_view),
        network_stats=[schema.NetworkStats(**asdict(each)) for each in answer.network],
    )


def as_counted(stats: BlockIoStats) -> BlockIoStats:
    """Block I/O as the kernel names it, in lower case (Kata 2 to 4)."""
    return stats


def as_libcontainer(stats: BlockIoStats) -> BlockIoStats:
    """Block I/O as Go's libcontainer lists it (Kata 1.x): capitals, and counts apart from bytes.

    What cgroup v2 has in one list goes to the two lists of v1; discards have no place there.
    """
    names = {"rios": "Read", "wios": "Write"}
    counts = [each for each in stats.service_bytes if each.operation in names]
    volumes = [each for each in stats.service_bytes if each.operation not in (*names, "dbytes", "dios")]
    return BlockIoStats(
        service_bytes=_capitalised(volumes),
        serviced=(
            *_capitalised(stats.serviced),
            *(BlockIoEntry(each.major, each.minor, names[each.operation], each.value) for each in counts),
        ),
        queued=_capitalised(stats.queued),
        service_time=_capitalised(stats.service_time),
        wait_time=_capitalised(stats.wait_time),
        merged=_capitalised(stats.merged),
        time=_capitalised(stats.time),
        sectors=_capitalised(stats.sectors),
    )


def _capitalised(entries: Iterable[BlockIoEntry]) -> tuple[BlockIoEntry, ...]:
    return tuple(
        BlockIoEntry(each.major, each.minor, each.operation.capitalize(), each.value) for each in entries
    )


def _cgroup(schema: Schema, stats: CgroupStats, block_io_view: BlockIoView) -> Message:
    message = schema.CgroupStats()
    if (usage := stats.cpu_usage) is not None:
        message.cpu_stats.cpu_usage.CopyFrom(
            schema.CpuUsage(
                total_usage=usage.total_ns,
                percpu_usage=usage.per_cpu_ns,
                usage_in_kernelmode=usage.kernel_ns,
                usage_in_usermode=usage.user_ns,
            )
        )
    if (throttling := stats.throttling) is not None:
        message.cpu_stats.throttling_data.CopyFrom(
            schema.ThrottlingData(
                periods=throttling.periods,
                throttled_periods=throttling.throttled_periods,
                throttled_time=throttling.throttled_ns,
            )
        )
    if stats.memory is not None:
        message.memory_stats.CopyFrom(_memory(schema, stats.memory))
    if (pids := stats.pids) is not None:
        message.pids_stats.CopyFrom(schema.PidsStats(current=pids.current, limit=pids.limit))
    if stats.block_io is not None:
        message.blkio_stats.CopyFrom(_block_io(schema, block_io_view(stats.block_io)))
    for size, pages in stats.hugepages.items():
        message.hugetlb_stats[size].CopyFrom(
            schema.HugetlbStats(usage=pages.usage, max_usage=pages.max_usage, failcnt=pages.failures)
        )
    return message


def _memory(schema: Schema, stats: MemoryStats) -> Message:
    return schema.MemoryStats(
        cache=stats.cache,
        usage=_memory_data(schema, stats.usage),
        swap_usage=_memory_data(schema, stats.swap),
        kernel_usage=_memory_data(schema, stats.kernel),
        use_hierarchy=stats.use_hierarchy,
        stats=stats.counters,
    )


def _memory_data(schema: Schema, data: MemoryUsage | None) -> Message | None:
    if data is None:
        return None
    return schema.MemoryData(
        usage=data.usage, max_usage=data.max_usage, failcnt=data.failures, limit=data.limit
    )


def _block_io(schema: Schema, stats: BlockIoStats) -> Message:
    def entries(found: Iterable[BlockIoEntry]) -> list[Message]:
        return [
            schema.BlkioStatsEntry(major=each.major, minor=each.minor, op=each.operation, value=each.value)
            for each in found
        ]

    return schema.BlkioStats(
        io_service_bytes_recursive=entries(stats.service_bytes),
        io_serviced_recursive=entries(stats.serviced),
        io_queued_recursive=entries(stats.queued),
        io_service_time_recursive=entries(stats.service_time),
        io_wait_time_recursive=entries(stats.wait_time),
        io_merged_recursive=entries(stats.merged),
        io_time_recursive=entries(stats.time),
        sectors_recursive=entries(stats.sectors),
    )
