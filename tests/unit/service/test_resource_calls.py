"""Limits and figures on the wire of both generations."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config import AgentConfig
from agent.containers import stats_v1, stats_v2
from agent.containers.oci_spec import merge_resources
from agent.containers.stats import CgroupStats, ContainerStats, network_stats
from agent.errors import AgentError, CodedError, Generation, StatusCode, status_for
from agent.processes.reaper import Reaper
from agent.service import kata1, kata2, requests, resource_calls
from agent.service.agent import Agent
from agent.service.resource_calls import get_oom_event
from agent.service.routes import AGENT_SERVICE, Router
from protos import kata1 as kata1_messages
from protos import kata2 as kata2_messages
from tests.unit.containers.cgroup_texts import NET_DEV, VERSION_1, VERSION_2, reader
from tests.unit.service.test_generations import GENERATIONS, decode, encode

FULL_1 = ContainerStats(
    stats_v1.cgroup_stats(reader(VERSION_1), ticks_per_s=100, page_sizes=["2MB"]), network_stats(NET_DEV)
)
FULL_2 = ContainerStats(stats_v2.cgroup_stats(reader(VERSION_2), page_sizes=["2MB"]))


def operations(entries: Any) -> list[tuple[str, int]]:
    return [(each.op, each.value) for each in entries]


@GENERATIONS
def test_every_figure_of_version_1(codec: Any, messages: Any) -> None:
    answer = encode(codec, messages, "StatsContainer", FULL_1)
    cgroup = answer.cgroup_stats
    usage, throttling = cgroup.cpu_stats.cpu_usage, cgroup.cpu_stats.throttling_data
    assert (usage.total_usage, usage.usage_in_usermode, usage.usage_in_kernelmode) == (
        123456789,
        70_000_000,
        50_000_000,
    )
    assert list(usage.percpu_usage) == [100000000, 23456789]
    assert (throttling.periods, throttling.throttled_periods, throttling.throttled_time) == (12, 3, 456)
    memory = cgroup.memory_stats
    data = [
        (each.usage, each.max_usage, each.failcnt, each.limit)
        for each in (memory.usage, memory.swap_usage, memory.kernel_usage)
    ]
    assert data == [
        (16384, 32768, 2, 9223372036854771712),
        (20000, 40000, 1, 65536),
        (300, 400, 0, 500),
    ]
    assert (memory.cache, memory.use_hierarchy, memory.stats["rss"]) == (8192, True, 4096)
    assert (cgroup.pids_stats.current, cgroup.pids_stats.limit) == (4, 0)
    pages = cgroup.hugetlb_stats["2MB"]
    assert (pages.usage, pages.max_usage, pages.failcnt) == (2097152, 4194304, 6)
    assert (cgroup.blkio_stats.io_time_recursive[0].major, cgroup.blkio_stats.io_time_recursive[0].minor) == (
        8,
        16,
    )
    eth0 = answer.network_stats[0]
    assert (eth0.name, eth0.rx_bytes, eth0.rx_packets, eth0.rx_errors, eth0.rx_dropped) == (
        "eth0",
        1440558719,
        39433,
        1,
        2,
    )
    assert (eth0.tx_bytes, eth0.tx_packets, eth0.tx_errors, eth0.tx_dropped) == (2415651, 23980, 3, 4)


def test_block_io_is_named_as_each_generation_has_it() -> None:
    old = encode(kata1.CODEC, kata1_messages, "StatsContainer", FULL_1).cgroup_stats.blkio_stats
    new = encode(kata2.CODEC, kata2_messages, "StatsContainer", FULL_1).cgroup_stats.blkio_stats
    assert operations(old.io_serviced_recursive) == [("Read", 9), ("Write", 1), ("Total", 10)]
    assert operations(new.io_serviced_recursive) == [("read", 9), ("write", 1), ("total", 10)]
    old = encode(kata1.CODEC, kata1_messages, "StatsContainer", FULL_2).cgroup_stats.blkio_stats
    new = encode(kata2.CODEC, kata2_messages, "StatsContainer", FULL_2).cgroup_stats.blkio_stats
    assert operations(old.io_service_bytes_recursive) == [("Read", 4096), ("Write", 512)]
    assert operations(old.io_serviced_recursive) == [("Read", 9), ("Write", 1)]
    assert [op for op, _ in operations(new.io_service_bytes_recursive)] == [
        "read",
        "write",
        "rios",
        "wios",
        "dbytes",
        "dios",
    ]
    assert operations(new.io_serviced_recursive) == []


@GENERATIONS
def test_what_is_not_counted_is_not_set(codec: Any, messages: Any) -> None:
    cgroup = encode(codec, messages, "StatsContainer", ContainerStats(CgroupStats())).cgroup_stats
    assert [field.name for field, _ in cgroup.ListFields()] == []
    no_limit = encode(codec, messages, "StatsContainer", FULL_2).cgroup_stats.memory_stats.usage.limit
    assert no_limit == 2**64 - 1


@GENERATIONS
def test_update_requests(codec: Any, messages: Any) -> None:
    assert decode(codec, messages, "UpdateContainer", container_id="c1") == requests.UpdateContainer(
        "c1", None
    )
    fields = {
        "CPU": {"Quota": -1, "Shares": 0, "Cpus": "0"},
        "Memory": {"Limit": 5, "Swap": -1},
        "Pids": {"Limit": 0},
        "HugepageLimits": [{"Pagesize": "2MB"}],
    }
    request = decode(codec, messages, "UpdateContainer", container_id="c1", resources=fields)
    assert request == requests.UpdateContainer(
        "c1",
        {
            "cpu": {"quota": -1, "cpus": "0"},
            "memory": {"limit": 5, "swap": -1},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
        },
    )


def test_what_a_1x_update_does_not_take() -> None:
    resources = {
        "memory": {"limit": 5, "swappiness": 60},
        "blockIO": {"weight": 10, "throttleReadBpsDevice": [{}]},
        "network": {"classID": 3},
        "cpu": {"cpus": "0,8000"},
    }
    taken = resource_calls._taken(resources, kata1.RULES)
    assert taken["memory"] == {"limit": 5}
    assert taken["blockIO"] == {"weight": 10}
    assert "network" not in taken
    assert "8000" not in taken["cpu"]["cpus"]
    assert resource_calls._taken(resources, kata2.RULES) == resources


def test_new_limits_join_those_of_the_document() -> None:
    rules = [{"allow": False, "access": "rwm"}]
    spec = {
        "linux": {
            "resources": {
                "devices": rules,
                "cpu": {"cpus": "0", "shares": 5},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            }
        }
    }
    new = {
        "devices": [{"allow": True}],
        "cpu": {"shares": 7},
        "pids": {"limit": -1},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 2}, {"pageSize": "1GB", "limit": 3}],
    }
    merge_resources(spec, new)
    assert spec["linux"]["resources"] == {
        "devices": rules,
        "cpu": {"cpus": "0", "shares": 7},
        "pids": {"limit": -1},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 2}, {"pageSize": "1GB", "limit": 3}],
    }


@pytest.mark.parametrize(
    ("generation", "method", "code"),
    [
        (Generation.KATA1, "UpdateContainer", StatusCode.NOT_FOUND),
        (Generation.KATA1, "StatsContainer", StatusCode.NOT_FOUND),
        (Generation.KATA1, "PauseContainer", StatusCode.NOT_FOUND),
        (Generation.KATA1, "ResumeContainer", StatusCode.NOT_FOUND),
        (Generation.KATA1, "ListProcesses", StatusCode.NOT_FOUND),
        (Generation.KATA2, "UpdateContainer", StatusCode.INVALID_ARGUMENT),
        (Generation.KATA2, "StatsContainer", StatusCode.INVALID_ARGUMENT),
        (Generation.KATA2, "PauseContainer", StatusCode.INVALID_ARGUMENT),
        (Generation.KATA2, "ResumeContainer", StatusCode.INVALID_ARGUMENT),
        (Generation.KATA2, "ListProcesses", StatusCode.UNIMPLEMENTED),
        (Generation.KATA1, "GetDiagnosticData", StatusCode.UNIMPLEMENTED),
    ],
)
async def test_codes_without_a_container(generation: Generation, method: str, code: StatusCode) -> None:
    """None of these asks whether there is a sandbox: each looks for its container."""
    router = Router(Agent(AgentConfig(), Reaper()))
    with pytest.raises(AgentError) as caught:
        await router.call(generation, AGENT_SERVICE, method, b"", {})
    assert status_for(caught.value, generation).code is code


async def test_the_end_of_the_events() -> None:
    agent = Agent(AgentConfig(), Reaper())
    agent.oom_events.report("c1")
    agent.oom_events.close()
    assert await get_oom_event(agent, requests.NoArguments(), kata2.RULES) == "c1"
    with pytest.raises(CodedError) as caught:
        await get_oom_event(agent, requests.NoArguments(), kata2.RULES)
    assert (caught.value.code, str(caught.value)) == (StatusCode.INTERNAL, "")
