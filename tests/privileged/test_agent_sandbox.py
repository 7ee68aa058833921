"""What containers share through their sandbox, and the sandbox's end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.privileged.agents import (
    BOTH_WIRES,
    AgentProcess,
    Host,
    Wire,
    agent_process,
    guest_state,
    host_of,
    mount_table,
)

STORAGE = "/run/kata-containers/sandbox/scratch"


@pytest.fixture
def agent(run_dir: Path) -> Iterator[AgentProcess]:
    with agent_process(run_dir) as process:
        yield process


@pytest.fixture(params=["ttrpc", "grpc"])
def wire(request: pytest.FixtureRequest) -> Wire:
    wire: Wire = request.param
    return wire


@pytest.fixture
async def host(agent: AgentProcess, wire: Wire, busybox_rootfs: Path, run_dir: Path) -> AsyncIterator[Host]:
    async with host_of(agent, wire, busybox_rootfs) as host:
        before = guest_state(ignored=run_dir)
        yield host
        if agent.process.poll() is None:
            await host.finish()
        assert guest_state(ignored=run_dir) == before


def tmpfs(mount_point: str = STORAGE) -> dict[str, Any]:
    return {"driver": "ephemeral", "source": "tmpfs", "fstype": "tmpfs", "mount_point": mount_point}


async def said(host: Host, container_id: str, *command: str, **fields: Any) -> str:
    """What a short container prints; it is removed again."""
    await host.run(container_id, *command, **fields)
    assert await host.wait(container_id) == 0, await host.output(container_id, stream="ReadStderr")
    output = await host.output(container_id)
    await host.remove(container_id)
    return output.decode().strip()


async def test_containers_share_hostname_and_ipc(host: Host) -> None:
    await host.call("CreateSandbox", sandbox_id="s1", hostname="boxy")
    for kind in ("ipc", "uts"):
        first, second = [await said(host, f"c{n}", "readlink", f"/proc/self/ns/{kind}") for n in (1, 2)]
        assert first == second != str(Path(f"/proc/self/ns/{kind}").readlink())
    assert await said(host, "c3", "hostname") == "boxy"
    spec = host.spec("hostname", container_id="c4")
    spec.Hostname = "own"  # it would be everybody's
    assert await said(host, "c4", spec=spec) == "boxy"


async def test_dns_servers_cover_the_guests_own(host: Host) -> None:
    before = Path("/etc/resolv.conf").read_text()
    await host.call("CreateSandbox", sandbox_id="s1", dns=[" nameserver 192.0.2.53 ", "search example.test"])
    assert Path("/etc/resolv.conf").read_text() == "nameserver 192.0.2.53\nsearch example.test"
    await host.finish()
    assert Path("/etc/resolv.conf").read_text() == before


def mounts_at(path: str) -> int:
    return sum(line.split()[4] == path for line in mount_table())


async def test_a_storage_goes_with_its_last_user(host: Host) -> None:
    await host.call("CreateSandbox", sandbox_id="s1")
    await host.create("c1", "true", storages=[tmpfs()])
    await host.create("c2", "true", storages=[tmpfs()])
    assert mounts_at(STORAGE) == 1
    await host.remove("c1")
    assert mounts_at(STORAGE) == 1
    await host.remove("c2")
    assert mounts_at(STORAGE) == 0
    assert not Path(STORAGE).exists()


async def test_a_storage_of_the_sandbox_outlives_its_containers(host: Host) -> None:
    await host.call("CreateSandbox", sandbox_id="s1", storages=[tmpfs()])
    await host.create("c1", "true", storages=[tmpfs()])
    await host.remove("c1")
    assert mounts_at(STORAGE) == 1


async def test_a_volume_is_written_by_one_and_read_by_the_other(host: Host) -> None:
    await host.call("CreateSandbox", sandbox_id="s1", storages=[tmpfs()])
    for container_id, command, expected in (
        ("c1", "echo kept > /data/file", ""),
        ("c2", "cat /data/file", "kept"),
    ):
        spec = host.spec("sh", "-c", command, container_id=container_id)
        spec.Mounts.add(destination="/data", source=STORAGE, type="bind", options=["rbind"])
        assert await said(host, container_id, spec=spec) == expected


async def test_the_root_device_of_the_guest_is_out_of_reach(host: Host) -> None:
    """CVE-2020-2023: not even a container that may make nodes can read the guest's own disk."""
    await host.call("CreateSandbox", sandbox_id="s1")
    numbers = [line.split()[2] for line in mount_table() if line.split()[4] == "/"][-1].split(":")
    command = f"mknod /tmp/root b {numbers[0]} {numbers[1]} && head -c 1 /tmp/root"
    spec = host.spec("sh", "-c", command, container_id="c1")
    for kind in ("Bounding", "Effective", "Permitted"):
        getattr(spec.Process.Capabilities, kind).append("CAP_MKNOD")
    await host.run("c1", spec=spec)
    assert await host.wait("c1") != 0
    assert b"Operation not permitted" in await host.output("c1", stream="ReadStderr")


async def test_a_shared_pid_namespace(host: Host) -> None:
    """Asked for by each container: the first one's namespace is that of the sandbox."""
    await host.call("CreateSandbox", sandbox_id="s1")
    await host.run("c1", "sh", "-c", "readlink /proc/self/ns/pid; sleep 1000", sandbox_pidns=True)
    first = (await host.read("c1")).decode().strip()
    assert await said(host, "c2", "readlink", "/proc/self/ns/pid", sandbox_pidns=True) == first
    assert await said(host, "c3", "readlink", "/proc/self/ns/pid") != first


@pytest.mark.parametrize("wire", ["grpc"])
async def test_a_pause_process_holds_the_pid_namespace_of_a_1x_sandbox(host: Host) -> None:
    await host.call("CreateSandbox", sandbox_id="s1", sandbox_pidns=True)
    pids = [await said(host, f"c{n}", "readlink", "/proc/self/ns/pid") for n in (1, 2)]
    assert pids[0] == pids[1]
    assert "sleep" in await said(host, "c3", "ps")
    assert len(host.agent.children()) == 1
    await host.call("DestroySandbox")
    assert host.agent.children() == set()


async def test_a_later_host_cannot_share_what_is_not_there(host: Host) -> None:
    await host.call("CreateSandbox", sandbox_id="s1")
    await host.run("c1", "sleep", "1000")
    await host.call("SignalProcess", container_id="c1", exec_id="c1", signal=9)
    await host.wait("c1")
    await host.remove("c1")
    await host.create("c2", "true", sandbox_pidns=True)


async def test_guest_hooks_run(host: Host, tmp_path: Path) -> None:
    hook = tmp_path / "prestart" / "hook"
    hook.parent.mkdir()
    hook.write_text(f'#!/bin/sh\necho "$0 $1" > {tmp_path}/ran\n')
    hook.chmod(0o755)
    await host.call("CreateSandbox", sandbox_id="s1", guest_hook_path=str(tmp_path))
    await host.create("c1", "true")
    assert (tmp_path / "ran").read_text().split()[1:] == ["prestart"]


@BOTH_WIRES
async def test_net_sysctls_are_the_guests(wire: Wire, busybox_rootfs: Path, run_dir: Path) -> None:
    """Set by one container, they are seen by all: the guest has one network."""
    with agent_process(run_dir, prefix=["unshare", "-n"]) as agent:
        async with host_of(agent, wire, busybox_rootfs) as host:
            await host.call("CreateSandbox", sandbox_id="s1")
            spec = host.spec("true", container_id="c1")
            spec.Linux.Sysctl["net.ipv4.ip_default_ttl"] = "77"
            await host.create("c1", spec=spec)
            assert await said(host, "c2", "cat", "/proc/sys/net/ipv4/ip_default_ttl") == "77"
            await host.finish()
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() != "77\n"


async def test_a_removal_that_takes_too_long_goes_on(host: Host) -> None:
    """Its hook keeps the removal busy; the second call joins the first."""
    await host.call("CreateSandbox", sandbox_id="s1")
    fifo = host.rootfs.parent / "fifo"
    spec = host.spec("true", container_id="c1")
    spec.Hooks.Poststop.add(Path="/bin/sh", Args=["sh", "-c", f"mkfifo {fifo}; read line < {fifo}"])
    await host.create("c1", spec=spec)
    code, message = await host.refused("RemoveContainer", container_id="c1", timeout=1)
    assert (code, "goes on" in message) == (4 if host.is_old else 13, True)
    joined = asyncio.create_task(host.remove("c1"))
    await host.call("Check")  # the other call is on its way before this one's answer is
    await asyncio.to_thread(fifo.write_text, "go\n")
    await joined
    assert (await host.refused("RemoveContainer", container_id="c1"))[0] == (5 if host.is_old else 13)


async def test_destroy_takes_everything_with_it(host: Host, run_dir: Path) -> None:
    before = guest_state(ignored=run_dir)
    await host.call("CreateSandbox", sandbox_id="s1", hostname="boxy", storages=[tmpfs()])
    await host.run("c1", "sleep", "1000", storages=[tmpfs(STORAGE + "-2")])
    await host.create("c2", "true")
    await host.call("ExecProcess", container_id="c1", exec_id="e1", process=host.process("sleep", "1000"))
    waiting = asyncio.create_task(host.wait("c1"))
    await host.call("Check")  # the other call is on its way before this one's answer is
    await host.finish()
    assert await waiting == 137
    assert guest_state(ignored=run_dir) == before


async def test_a_1x_agent_lives_on(agent: AgentProcess, busybox_rootfs: Path) -> None:
    async with host_of(agent, "grpc", busybox_rootfs) as host:
        await host.call("DestroySandbox")  # without a sandbox there is nothing to do
        for name in ("s1", "s2"):
            await host.call("CreateSandbox", sandbox_id=name)
            await host.run("c1", "true")
            assert await host.wait("c1") == 0
            await host.call("DestroySandbox")


async def test_a_later_hosts_agent_shuts_down_in_order(agent: AgentProcess, busybox_rootfs: Path) -> None:
    """The answer arrives, although other calls still wait."""
    async with host_of(agent, "ttrpc", busybox_rootfs) as host:
        await host.call("CreateSandbox", sandbox_id="s1")
        await host.run("c1", "sleep", "1000")
        reading = asyncio.create_task(host.read("c1"))
        await host.call("Check")
        await host.finish()
        assert await reading == b""
    assert "shutdown complete" in agent.log.read_text()


@BOTH_WIRES
async def test_sigterm_leaves_nothing(
    wire: Wire, agent: AgentProcess, busybox_rootfs: Path, run_dir: Path
) -> None:
    async with host_of(agent, wire, busybox_rootfs) as host:
        before = guest_state(ignored=run_dir)
        await host.call("CreateSandbox", sandbox_id="s1", storages=[tmpfs()])
        await host.run("c1", "sleep", "1000")
        waiting = asyncio.create_task(host.wait("c1"))
        agent.process.send_signal(signal.SIGTERM)
        assert await agent.ended() == 0
        await asyncio.wait([waiting])
        assert waiting.exception() is not None
    sockets = {path for path in before["files"] if path.endswith(".sock")}
    after = guest_state(ignored=run_dir)
    assert after == {**before, "files": before["files"] - sockets}


async def test_the_guest_in_numbers(host: Host) -> None:
    details = await host.call("GetGuestDetails", mem_block_size=True, mem_hotplug_probe=True)
    assert details.agent_details.version
    assert not details.agent_details.init_daemon
    assert details.agent_details.supports_seccomp
    assert set(details.agent_details.storage_handlers) >= {
        "9p",
        "virtio-fs",
        "blk",
        "scsi",
        "ephemeral",
        "local",
    }
    assert bool(details.agent_details.device_handlers) == host.is_old
    block_size = Path("/sys/devices/system/memory/block_size_bytes")
    expected = int(block_size.read_text(), 16) if block_size.exists() else 0
    assert details.mem_block_size_bytes == expected
    code, message = await host.refused("ReseedRandomDev", data=b"")
    assert (code, message) == (2 if host.is_old else 13, "missing entropy data")
    await host.call("ReseedRandomDev", data=bytes(range(256)) * 4)
    code, message = await host.refused("SetGuestDateTime", Sec=1, Usec=2_000_000)
    assert (code, "EINVAL" in message) == (13, True)
    await host.call("CreateSandbox", sandbox_id="s1")


async def test_the_network_before_any_sandbox(host: Host) -> None:
    links = {each.name: each for each in (await host.call("ListInterfaces")).Interfaces}
    assert links["lo"].mtu > 0
    assert any(address.address == "127.0.0.1" for address in links["lo"].IPAddresses)
    await host.call("ListRoutes")
    wanted = {"name": "eth7", "hwAddr": "02:00:00:00:00:99"}
    code, message = await host.refused("UpdateInterface", interface=wanted)
    assert (code, "02:00:00:00:00:99" in message) == (13, True)
    assert (await host.refused("UpdateInterface"))[0] == 3
    assert (await host.refused("UpdateRoutes"))[0] == 3
    assert (await host.refused("UpdateRoutes", routes={"Routes": [{"dest": "x", "device": "lo"}]}))[0] == 3
    await host.call("CreateSandbox", sandbox_id="s1")
