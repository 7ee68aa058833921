"""A container's figures from the text of cgroup files of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.containers import stats_v1, stats_v2
from agent.containers.cgroup_files import CgroupFiles
from agent.containers.stats import (
    NO_LIMIT,
    BlockIoEntry,
    CpuThrottling,
    CpuUsage,
    HugepageStats,
    MemoryUsage,
    NetworkStats,
    PidsStats,
    network_stats,
)
from agent.containers.stats_reader import read_stats
from tests.unit.containers.cgroup_texts import NET_DEV, VERSION_1, VERSION_2, reader


def test_version_1() -> None:
    stats = stats_v1.cgroup_stats(reader(VERSION_1), ticks_per_s=100, page_sizes=["2MB", "1GB"])
    assert stats.cpu_usage == CpuUsage(123456789, 70_000_000, 50_000_000, (100000000, 23456789))
    assert stats.throttling == CpuThrottling(12, 3, 456)
    assert stats.pids == PidsStats(4, 0)
    assert stats.hugepages == {"2MB": HugepageStats(2097152, 4194304, 6)}
    memory = stats.memory
    assert memory is not None
    assert (memory.cache, memory.use_hierarchy) == (8192, True)
    assert memory.usage == MemoryUsage(16384, 32768, 2, 9223372036854771712)
    assert memory.swap == MemoryUsage(20000, 40000, 1, 65536)
    assert memory.kernel == MemoryUsage(300, 400, 0, 500)
    assert memory.counters == {
        "cache": 8192,
        "rss": 4096,
        "hierarchical_memory_limit": 9223372036854771712,
    }


def test_block_io_of_version_1() -> None:
    """Whoever counts: the throttling layer, BFQ, or the scheduler whose files have no name of their own."""
    block_io = stats_v1.cgroup_stats(reader(VERSION_1), ticks_per_s=100, page_sizes=()).block_io
    assert block_io is not None
    assert block_io.service_bytes == (BlockIoEntry(8, 0, "read", 4096), BlockIoEntry(8, 0, "discard", 0))
    assert [each.operation for each in block_io.serviced] == ["read", "write", "total"]
    assert block_io.merged == (BlockIoEntry(8, 16, "async", 5),)
    assert block_io.time == (BlockIoEntry(8, 16, "", 17),)
    assert block_io.sectors == (BlockIoEntry(8, 16, "", 64),)
    assert block_io.queued == ()
    own = {**VERSION_1, "blkio/blkio.io_serviced_recursive": "8:0 Sync 3\n"}
    block_io = stats_v1.cgroup_stats(reader(own), ticks_per_s=100, page_sizes=()).block_io
    assert block_io is not None
    assert block_io.serviced == (BlockIoEntry(8, 0, "sync", 3),)


def test_version_2() -> None:
    stats = stats_v2.cgroup_stats(reader(VERSION_2), page_sizes=["2MB", "1GB"])
    assert stats.cpu_usage == CpuUsage(123456000, 100000000, 23456000, ())
    assert stats.throttling == CpuThrottling(12, 3, 456000)
    assert stats.pids == PidsStats(4, 50)
    assert stats.hugepages == {"2MB": HugepageStats(2097152, failures=6)}
    memory = stats.memory
    assert memory is not None
    assert (memory.cache, memory.use_hierarchy) == (8192, False)
    assert memory.usage == MemoryUsage(16384, 32768, 2, NO_LIMIT)
    assert memory.swap == MemoryUsage(20, 0, 7, 65536)
    assert memory.kernel == MemoryUsage(usage=300)
    assert memory.counters == {"anon": 4096, "file": 8192, "kernel": 300}
    assert stats.block_io is not None
    assert [(each.operation, each.value) for each in stats.block_io.service_bytes] == [
        ("read", 4096),
        ("write", 512),
        ("rios", 9),
        ("wios", 1),
        ("dbytes", 0),
        ("dios", 0),
    ]
    assert {(each.major, each.minor) for each in stats.block_io.service_bytes} == {(8, 0)}


def test_controllers_that_are_not_there() -> None:
    for stats in (
        stats_v1.cgroup_stats(reader({}), ticks_per_s=100, page_sizes=["2MB"]),
        stats_v2.cgroup_stats(reader({}), page_sizes=["2MB"]),
    ):
        assert (stats.cpu_usage, stats.throttling, stats.memory) == (None, None, None)
        assert (stats.pids, stats.block_io, stats.hugepages) == (None, None, {})


def test_version_2_without_the_cpu_controller() -> None:
    """The root of the tree counts time, but no quota."""
    text = {"cpu/cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\n"}
    stats = stats_v2.cgroup_stats(reader(text), page_sizes=())
    assert stats.cpu_usage == CpuUsage(5000, 3000, 2000)
    assert stats.throttling is None


def test_network() -> None:
    assert network_stats(NET_DEV) == (
        NetworkStats("eth0", 1440558719, 39433, 1, 2, 2415651, 23980, 3, 4),
        NetworkStats("eth0.5", 7, 6, 5, 4, 3, 2, 1, 0),
    )


@pytest.mark.parametrize(("texts", "unified"), [(VERSION_1, False), (VERSION_2, True)])
def test_the_files_of_a_tree(tmp_path: Path, texts: dict[str, str], unified: bool) -> None:
    if unified:
        (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    for name, text in texts.items():
        controller, _, file = name.partition("/")
        directory = tmp_path / ("pods/c1" if unified else f"{controller}/pods/c1")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / file).write_text(text)
    stats = read_stats(CgroupFiles("/pods/c1", str(tmp_path)), os.getpid())
    assert stats.cgroup.memory is not None
    assert stats.cgroup.memory.usage.usage == 16384
    assert set(stats.cgroup.hugepages) == {"2MB"}
    assert {each.name for each in stats.network} == set(os.listdir("/sys/class/net")) - {"lo"}
    gone = read_stats(CgroupFiles("/pods/c2", str(tmp_path)), None)
    assert (gone.cgroup.memory, gone.network) == (None, ())
