"""CreateContainer and CreateSandbox are transactions: whatever step fails, the guest is what it was.

Every blocking call and every child process is a step. In turn each of them is made to fail, and the
request cancelled while it runs, and the guest compared with what it was before.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config import AgentConfig
from agent.errors import AgentError, Generation, KernelRefused
from agent.linux import blocking
from agent.processes import spawn
from agent.processes.reaper import Reaper
from agent.service.agent import Agent
from agent.service.routes import AGENT_SERVICE, Router
from protos import kata1, kata2
from tests.privileged.agents import CGROUP, guest_state
from tests.privileged.containers import children
from tests.privileged.own_network import own_network

Inject = Callable[[], None]
GENERATIONS = pytest.mark.parametrize("generation", list(Generation), ids=lambda each: each.value)
FAULTS = pytest.mark.parametrize("fault", ["refuse", "cancel"])
MESSAGES: dict[Generation, Any] = {Generation.KATA1: kata1, Generation.KATA2: kata2}
TTL = Path("/proc/sys/net/ipv4/ip_default_ttl")  # of the reading thread's network


class Saboteur:
    """Lets one step of all those that come fail, or cancels the request at it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left = 0
        self._fault = ""
        self.has_struck = False
        submit, start = blocking._submit, spawn.spawn

        def submit_or_strike(*arguments: Any) -> asyncio.Future[Any]:
            self._step()
            return submit(*arguments)

        def start_or_strike(*arguments: Any, **options: Any) -> int:
            self._step()
            return start(*arguments, **options)

        monkeypatch.setattr(blocking, "_submit", submit_or_strike)
        monkeypatch.setattr(spawn, "spawn", start_or_strike)

    def strike_at(self, step: int, fault: str) -> None:
        """Strike at the step after `step` - 1 others."""
        self._left, self._fault, self.has_struck = step, fault, False

    def _step(self) -> None:
        self._left -= 1
        if self._left != 0:
            return
        self.has_struck = True
        if self._fault == "refuse":
            raise KernelRefused("sabotage")
        task = asyncio.current_task()
        assert task is not None
        task.cancel()


class LocalHost:
    """Calls the router without a wire, each call in a task of its own as a transport does it."""

    def __init__(self, generation: Generation) -> None:
        self.reaper = Reaper()
        self.reaper.start()
        self.agent = Agent(AgentConfig(hotplug_timeout_s=0.2), self.reaper)
        self.router = Router(self.agent)
        self.generation = generation
        self.messages = MESSAGES[generation]

    def call(self, method: str, /, **fields: Any) -> asyncio.Task[bytes]:
        request_class, _ = self.messages.SERVICES[AGENT_SERVICE][method]
        payload = request_class(**fields).SerializeToString()
        return asyncio.create_task(self.router.call(self.generation, AGENT_SERVICE, method, payload, {}))


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A network of the test's own, in which the threads for blocking calls have to start anew."""
    with own_network():
        monkeypatch.setattr(blocking, "_pool", None)
        yield
        if blocking._pool is not None:
            blocking._pool.shutdown()


@pytest.fixture
async def host(generation: Generation) -> AsyncIterator[LocalHost]:
    host = LocalHost(generation)
    yield host
    await host.call("DestroySandbox")
    await host.agent.devices.stop()
    host.reaper.stop()


def picture(ignored: Path) -> dict[str, Any]:
    """The guest and this process, as far as a request may change them."""
    names = sorted(os.listdir("/proc/self/fd"))
    targets = {
        name: os.readlink(f"/proc/self/fd/{name}")
        for name in names
        if Path(f"/proc/self/fd/{name}").is_symlink()
    }
    return {
        **guest_state(ignored=ignored),
        "children": children(),
        "descriptors": sorted(targets.values()),
        "ttl": TTL.read_text(),
    }


def tmpfs(name: str) -> dict[str, str]:
    mount_point = f"/run/kata-containers/sandbox/{name}"
    return {"driver": "ephemeral", "source": "tmpfs", "fstype": "tmpfs", "mount_point": mount_point}


def container(rootfs: Path) -> dict[str, Any]:
    """A request that takes every kind of step."""
    spec = {
        "Version": "1.0.2",
        "Root": {"Path": str(rootfs)},
        "Process": {"Args": ["sleep", "1000"], "Cwd": "/", "Env": ["PATH=/bin"]},
        "Mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "Linux": {
            "Namespaces": [{"Type": kind} for kind in ("mount", "ipc", "uts")],
            "CgroupsPath": f"{CGROUP}/c1",
            "Sysctl": {"net.ipv4.ip_default_ttl": "77"},
        },
    }
    return {"container_id": "c1", "exec_id": "c1", "OCI": spec, "storages": [tmpfs("a"), tmpfs("b")]}


async def fail_at_every_step(
    saboteur: Saboteur, fault: str, attempt: Callable[[], Awaitable[object]], check: Callable[[], None]
) -> int:
    """Try until an attempt has fewer steps than the one to fail; the number of steps."""
    step = 1
    while True:
        saboteur.strike_at(step, fault)
        try:
            await attempt()
        except (AgentError, asyncio.CancelledError):
            assert saboteur.has_struck
        if not saboteur.has_struck:
            saboteur.strike_at(0, fault)
            return step - 1
        check()
        step += 1


@FAULTS
@GENERATIONS
async def test_create_container(
    host: LocalHost, fault: str, busybox_rootfs: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.call("CreateSandbox", sandbox_id="s1")
    request = container(busybox_rootfs)
    await host.call("CreateContainer", **request)  # once, for what is made once
    await host.call("RemoveContainer", container_id="c1")
    TTL.write_text("64\n")
    before = picture(run_dir)
    saboteur = Saboteur(monkeypatch)

    def check() -> None:
        now = picture(run_dir)
        assert set(now["descriptors"]) == set(before["descriptors"])
        assert now == before
        assert host.agent.sandbox.members() == []

    steps = await fail_at_every_step(saboteur, fault, lambda: host.call("CreateContainer", **request), check)
    assert steps >= 7  # two storages, the sysctl, the bundle and its filling, the cgroup, crun
    await host.call("StartContainer", container_id="c1")


@FAULTS
@GENERATIONS
async def test_create_sandbox(
    host: LocalHost, fault: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = {
        "sandbox_id": "s1",
        "hostname": "boxy",
        "dns": ["nameserver 192.0.2.53"],
        "storages": [tmpfs("a"), tmpfs("b")],
        "sandbox_pidns": True,
    }
    before = picture(run_dir)
    saboteur = Saboteur(monkeypatch)

    def check() -> None:
        now = picture(run_dir)
        assert set(now["descriptors"]) == set(before["descriptors"])
        assert now == before

    steps = await fail_at_every_step(saboteur, fault, lambda: host.call("CreateSandbox", **request), check)
    assert steps >= 5  # two namespaces, two storages, resolv.conf; for 1.x the pause process too
