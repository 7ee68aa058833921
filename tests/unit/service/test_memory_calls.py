"""CPUs, memory and swap: the two meanings of a number, and who waits for what."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.config import AgentConfig
from agent.containers.container import RuntimePaths
from agent.devices.wait import Devices
from agent.errors import AgentError, Generation, InvalidRequest, KernelRefused, StatusCode, status_for
from agent.processes.reaper import Reaper
from agent.service import kata1, kata2, memory_calls
from agent.service.agent import Agent, GuestPaths
from agent.service.memory_calls import add_swap, add_swap_path, online_cpu_mem, refuse_memory_agent
from agent.service.requests import AddSwap, AddSwapPath, NoArguments, OnlineCpusAndMemory
from agent.service.rules import Rules
from tests.fakes.sysfs import build_sysfs
from tests.fakes.uevents import ScriptedUevents

GENERATIONS = pytest.mark.parametrize("rules", [kata1.RULES, kata2.RULES], ids=["kata1", "kata2"])


class Guest:
    """Two CPUs online; what is asked of the processors is noted, and comes true."""

    def __init__(self, directory: Path) -> None:
        self.sys = build_sysfs(
            directory / "sys",
            {
                "devices/system/cpu/online": "0-1\n",
                "devices/system/memory": {"memory0/online": "1\n", "memory1/online": "0\n"},
            },
        )
        self.cgroups = build_sysfs(directory / "cgroup", {"cpuset/pod": {"cpuset.cpus": "0-1\n"}})
        paths = GuestPaths(sysfs=str(self.sys))
        self.agent = Agent(
            AgentConfig(),
            Reaper(),
            guest_paths=paths,
            runtime_paths=RuntimePaths(cgroups=str(self.cgroups)),
        )
        self.agent.devices = Devices(sysfs_root=str(self.sys), bus=ScriptedUevents())
        self.asked: list[tuple[int, float]] = []
        self.agent.devices.processors.bring_online = self._bring_online  # type: ignore[method-assign] # a spy

    async def _bring_online(self, total: int, timeout_s: float) -> None:
        self.asked.append((total, timeout_s))
        (self.sys / "devices/system/cpu/online").write_text(f"0-{total - 1}\n")

    def add_container(self, container_id: str, cpus: str = "") -> Path:
        """A container with, or without, CPUs of its own; where its list of them is."""
        build_sysfs(self.cgroups, {f"cpuset/pod/{container_id}": {"cpuset.cpus": cpus or "0-1\n"}})
        resources = {"resources": {"cpu": {"cpus": cpus}}} if cpus else {}
        member: Any = self.agent.sandbox.reserve(container_id)
        member.container = SimpleNamespace(
            spec={"linux": {"cgroupsPath": f"/pod/{container_id}", **resources}}
        )
        return self.cgroups / f"cpuset/pod/{container_id}/cpuset.cpus"

    @property
    def memory(self) -> str:
        return (self.sys / "devices/system/memory/memory1/online").read_text().strip()

    async def online(self, rules: Rules, cpus: int, *, wait: bool = True, cpu_only: bool = True) -> None:
        await online_cpu_mem(self.agent, OnlineCpusAndMemory(wait, cpus, cpu_only), rules)


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


async def test_a_1x_host_says_how_many_more(guest: Guest) -> None:
    await guest.online(kata1.RULES, 2)
    assert guest.asked == [(4, 10.0)]


async def test_a_later_host_says_how_many_in_all(guest: Guest) -> None:
    await guest.online(kata2.RULES, 4, wait=False)
    assert guest.asked == [(4, 5.0)]


@GENERATIONS
async def test_memory_comes_along_unless_told_otherwise(guest: Guest, rules: Rules) -> None:
    await guest.online(rules, 1, cpu_only=True)
    assert guest.memory == "0"
    await guest.online(rules, 0, cpu_only=False)
    assert guest.memory == "1"
    assert len(guest.asked) == 1


@GENERATIONS
async def test_containers_get_the_cpus(guest: Guest, rules: Rules) -> None:
    anyones, chosen = guest.add_container("c1"), guest.add_container("c2", "1")
    guest.agent.sandbox.reserve("c3")  # is just being created
    await guest.online(rules, 4 if rules is kata2.RULES else 2)
    assert anyones.read_text() == "0-3"
    assert chosen.read_text() == "1"
    assert (guest.cgroups / "cpuset/pod/cpuset.cpus").read_text() == "0-3"


async def test_no_cpus_at_all(guest: Guest) -> None:
    await guest.online(kata2.RULES, 0)
    with pytest.raises(InvalidRequest, match="'0' must be greater than 0") as caught:
        await guest.online(kata1.RULES, 0)
    assert kata1.RULES.recode("OnlineCPUMem", caught.value) is StatusCode.UNKNOWN


async def test_a_1x_host_that_does_not_wait_is_answered_at_once(
    guest: Guest, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails then is only logged."""
    caplog.set_level(logging.WARNING)
    await guest.online(kata1.RULES, 2, wait=False)
    assert guest.asked == []
    await guest.online(kata1.RULES, 0, wait=False)
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
    assert guest.asked == [(4, 10.0)]
    assert [record.message for record in caplog.records] == ["putting CPUs and memory to use failed"]


@pytest.fixture
def swaps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    paths: list[str] = []
    monkeypatch.setattr(memory_calls, "swap_on", paths.append)
    return paths


async def test_swap_to_a_disk_by_its_slots(
    guest: Guest, swaps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def block_node(address: object) -> str:
        asked.append(str(address))
        return "/dev/vdc"

    monkeypatch.setattr(guest.agent.devices, "block_node", block_node)
    await add_swap(guest.agent, AddSwap((2, 31)), kata2.RULES)
    await add_swap_path(guest.agent, AddSwapPath("/dev/vdd"), kata2.RULES)
    assert (asked, swaps) == (["02.0/1f.0"], ["/dev/vdc", "/dev/vdd"])


@pytest.mark.parametrize("slots", [(), (32,), (2, 300), (0x40, 1, 2)])
async def test_slots_that_are_none(guest: Guest, swaps: list[str], slots: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest):
        await add_swap(guest.agent, AddSwap(slots), kata2.RULES)
    assert swaps == []


@pytest.mark.parametrize("path", ["", "dev/vda", "/dev/v\0da"])
async def test_swap_paths_that_are_none(guest: Guest, swaps: list[str], path: str) -> None:
    with pytest.raises(InvalidRequest, match="is not absolute"):
        await add_swap_path(guest.agent, AddSwapPath(path), kata2.RULES)
    assert swaps == []


async def test_a_swap_area_that_is_none(guest: Guest, tmp_path: Path) -> None:
    with pytest.raises(KernelRefused, match=f"swapon {tmp_path}/missing failed"):
        await add_swap_path(guest.agent, AddSwapPath(f"{tmp_path}/missing"), kata2.RULES)


async def test_the_memory_agent_is_disabled(guest: Guest) -> None:
    with pytest.raises(AgentError) as caught:
        await refuse_memory_agent(guest.agent, NoArguments(), kata2.RULES)
    status = status_for(caught.value, Generation.KATA2)
    assert (status.code, status.message) == (StatusCode.INTERNAL, "mem-agent is disabled")
