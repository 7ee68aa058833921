"""Requests that cannot be carried out: one clear error, the code of the wire, nothing changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
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
)

# Quick to give up on devices that will not come.
CONFIG = 'hotplug_timeout = "0.3s"\n'
SHARED = "/run/kata-containers/shared/containers"


@pytest.fixture(params=["ttrpc", "grpc"])
def wire(request: pytest.FixtureRequest) -> Wire:
    wire: Wire = request.param
    return wire


@pytest.fixture
def agent(run_dir: Path) -> Iterator[AgentProcess]:
    with agent_process(run_dir, config=CONFIG + f'server_addr = "unix://{run_dir}/agent.sock"\n') as process:
        yield process


@pytest.fixture
async def host(agent: AgentProcess, wire: Wire, busybox_rootfs: Path) -> AsyncIterator[Host]:
    async with host_of(agent, wire, busybox_rootfs) as host:
        yield host


def storage(**fields: Any) -> dict[str, Any]:
    return {"driver": "blk", "fstype": "ext4", "mount_point": f"{SHARED}/x", **fields}


def tmpfs(name: str) -> dict[str, Any]:
    mount_point = f"/run/kata-containers/sandbox/{name}"
    return storage(driver="ephemeral", source="tmpfs", fstype="tmpfs", mount_point=mount_point)


Change = Callable[[Host, Any], dict[str, Any]]


def with_fields(**fields: Any) -> Change:
    """A request that differs in fields of its own."""
    return lambda host, spec: fields


def with_spec(edit: Callable[[Any], object]) -> Change:
    """A request whose spec differs."""

    def change(host: Host, spec: Any) -> dict[str, Any]:
        edit(spec)
        return {"OCI": spec}

    return change


def _no_rootfs(spec: Any) -> None:
    spec.Root.Path = "/run/kata-containers/shared/containers/none/rootfs"


def _sysctl(spec: Any) -> None:
    spec.Linux.Sysctl["vm.swappiness"] = "1"


def _net_sysctl(spec: Any) -> None:
    spec.Linux.Sysctl["net.ipv4.no_such_thing"] = "1"


def _device(**fields: Any) -> dict[str, Any]:
    return {"type": "blk", "id": "1e/1f", "container_path": "/dev/x", **fields}


# (what differs, code for a later host, code for a 1.x host, what the sentence names)
BAD_CREATIONS: dict[str, tuple[Change, int, int, str]] = {
    "relative id": (with_fields(container_id="../x"), 3, 3, "../x"),
    "dots as id": (with_fields(container_id=".."), 3, 3, '".."'),
    "empty id": (with_fields(container_id=""), 3, 3, '""'),
    "one character": (with_fields(container_id="x"), 3, 3, '"x"'),
    "reserved id": (with_fields(container_id="shared"), 3, 3, "shared"),
    "exec id": (with_fields(exec_id="a/b"), 3, 3, "a/b"),
    "no spec": (with_fields(OCI=None), 3, 3, "OCI spec"),
    "no process": (with_spec(lambda spec: spec.ClearField("Process")), 3, 3, "process"),
    "no command": (with_spec(lambda spec: spec.Process.ClearField("Args")), 3, 3, "args"),
    "no root": (with_spec(lambda spec: spec.ClearField("Root")), 3, 3, "root"),
    "no rootfs": (with_spec(_no_rootfs), 3, 3, "none/rootfs"),
    "sysctl": (with_spec(_sysctl), 3, 3, "vm.swappiness"),
    "net sysctl": (with_spec(_net_sysctl), 13, 2, "net.ipv4.no_such_thing"),
    "unknown driver": (with_fields(storages=[storage(driver="floppy")]), 3, 3, "floppy"),
    "bad PCI path": (with_fields(storages=[storage(source="zz/1")]), 3, 3, "zz/1"),
    "bad SCSI address": (with_fields(storages=[storage(driver="scsi", source="1")]), 3, 3, "1"),
    "bad ccw id": (with_fields(storages=[storage(driver="blk-ccw", source="0.9.1")]), 3, 3, "0.9.1"),
    "no such disk": (with_fields(storages=[storage(source="1e/1f")]), 13, 4, "1e"),
    "no such node": (with_fields(storages=[storage(driver="mmioblk", source="/dev/vdzz")]), 13, 4, "vdzz"),
    "mount point outside": (with_fields(storages=[{**tmpfs("a"), "mount_point": "/etc"}]), 3, 3, "/etc"),
    "second storage fails": (
        with_fields(storages=[tmpfs("a"), tmpfs("b"), storage(source="1e/1f")]),
        13,
        4,
        "1e",
    ),
    "unknown device type": (with_fields(devices=[_device(type="tape")]), 3, 3, "tape"),
    "device without path": (with_fields(devices=[_device(container_path="")]), 3, 3, "container path"),
    "no such device": (with_fields(devices=[_device()], storages=[tmpfs("a")]), 13, 4, "1e"),
}


@pytest.mark.parametrize("case", BAD_CREATIONS)
async def test_a_bad_creation_changes_nothing(host: Host, case: str, run_dir: Path) -> None:
    change, later, old, named = BAD_CREATIONS[case]
    await host.call("CreateSandbox", sandbox_id="s1")
    before = guest_state(ignored=run_dir)
    request = {"container_id": "c1", "exec_id": "c1", "OCI": host.spec("true", container_id="c1")}
    code, message = await host.refused(
        "CreateContainer", **{**request, **change(host, host.spec("true", container_id="c1"))}
    )
    assert code == (old if host.is_old else later), message
    assert named in message
    assert "\n" not in message
    assert guest_state(ignored=run_dir) == before
    await host.call("CreateContainer", **request)  # and the id is still to be had
    await host.finish()


async def test_the_deadline_of_a_device_tells_what_was_awaited(host: Host) -> None:
    await host.call("CreateSandbox", sandbox_id="s1")
    spec = host.spec("true", container_id="c1")
    _, message = await host.refused(
        "CreateContainer", container_id="c1", OCI=spec, storages=[storage(source="1e/1f")]
    )
    assert "PCI path 1e.0/1f.0" in message
    assert "0.3 s" in message
    assert "meanwhile" in message


async def test_a_second_container_with_the_same_id(host: Host, run_dir: Path) -> None:
    await host.call("CreateSandbox", sandbox_id="s1")
    await host.run("c1", "sleep", "1000")
    before = guest_state(ignored=run_dir)
    # The id is looked at before all else, however bad the rest of the request is.
    code, message = await host.refused(
        "CreateContainer", container_id="c1", exec_id="c1", storages=[storage(driver="floppy")]
    )
    assert (code, '"c1"' in message) == (6, True)
    assert guest_state(ignored=run_dir) == before
    await host.call("ExecProcess", container_id="c1", exec_id="e1", process=host.process("true"))
    assert await host.wait("c1", "e1") == 0
    await host.finish()


async def test_two_creations_of_one_id_at_once(host: Host) -> None:
    await host.call("CreateSandbox", sandbox_id="s1")
    results = await asyncio.gather(*(host.create("c1", "true") for _ in range(5)), return_exceptions=True)
    assert sorted(getattr(result, "code", 0) for result in results) == [0, 6, 6, 6, 6]
    await host.finish()


async def test_a_second_sandbox_is_refused_before_anything_is_touched(host: Host, run_dir: Path) -> None:
    await host.call("CreateSandbox", sandbox_id="s1", hostname="boxy", storages=[tmpfs("a")])
    await host.run("c1", "sleep", "1000")
    before = guest_state(ignored=run_dir)
    code, message = await host.refused("CreateSandbox", sandbox_id="s2", storages=[storage(driver="floppy")])
    assert (code, "s1" in message) == (6, True)
    assert guest_state(ignored=run_dir) == before
    await host.finish()


@pytest.mark.parametrize(
    ("fields", "later", "old", "named"),
    [
        ({"storages": [tmpfs("a"), storage(driver="floppy")]}, 3, 3, "floppy"),
        ({"storages": [tmpfs("a"), storage(source="1e/1f")]}, 13, 4, "1e"),
        ({"kernel_modules": [{"name": "no-such-module"}]}, 13, 2, "no-such-module"),
        ({"kernel_modules": [{"name": ""}]}, 3, 3, "module"),
        ({"kernel_modules": [{"name": "--help"}]}, 3, 3, "--help"),
    ],
)
async def test_a_failed_sandbox_may_be_tried_again(
    host: Host, fields: dict[str, Any], later: int, old: int, named: str, run_dir: Path
) -> None:
    before = guest_state(ignored=run_dir)
    code, message = await host.refused("CreateSandbox", sandbox_id="s1", hostname="boxy", **fields)
    assert code == (old if host.is_old else later), message
    assert named in message
    assert guest_state(ignored=run_dir) == before
    await host.call("CreateSandbox", sandbox_id="s1")
    await host.finish()


async def test_what_a_container_call_says_before_there_is_a_sandbox(host: Host) -> None:
    """1.x: nothing but the health and network calls, and those that look a container up."""
    names = {"container_id": "c1", "exec_id": "c1"}
    code, message = await host.refused("WaitProcess", **names)
    assert code == (9 if host.is_old else 3)
    assert ("Sandbox not started" in message) == host.is_old
    code, _ = await host.refused("RemoveContainer", container_id="c1")
    assert code == (5 if host.is_old else 13)
    if host.is_old:
        code, message = await host.refused(
            "CreateContainer", **names, OCI=host.spec("true", container_id="c1")
        )
        assert (code, "Sandbox not started" in message) == (9, True)
    else:
        await host.run("c1", "true")
        assert await host.wait("c1") == 0
        await host.remove("c1")
    interfaces = (await host.call("ListInterfaces")).Interfaces
    assert "lo" in [each.name for each in interfaces]


UNKNOWN = {
    # method: (code for a later host, code for a 1.x host) for a container that is not there
    "StartContainer": (13, 5),
    "RemoveContainer": (13, 5),
    "ExecProcess": (13, 5),
    "SignalProcess": (3, 9),
    "WaitProcess": (3, 5),
    "WriteStdin": (13, 5),
    "ReadStdout": (3, 5),
    "ReadStderr": (3, 5),
    "CloseStdin": (3, 5),
    "TtyWinResize": (3, 5),
}


@pytest.mark.parametrize("method", UNKNOWN)
async def test_unknown_containers(host: Host, method: str) -> None:
    await host.call("CreateSandbox", sandbox_id="s1")
    fields: dict[str, Any] = {"container_id": "none"}
    if method not in ("StartContainer", "RemoveContainer"):
        fields["exec_id"] = "none"
    code, message = await host.refused(method, **fields)
    assert code == UNKNOWN[method][host.is_old]
    assert '"none" not found' in message
    await host.finish()


async def test_a_host_that_gives_up_leaves_nothing(host: Host, run_dir: Path) -> None:
    """Its deadline passes while a device is awaited: what was attached before goes again."""
    await host.call("CreateSandbox", sandbox_id="s1")
    before = guest_state(ignored=run_dir)
    request = {"container_id": "c1", "exec_id": "c1", "OCI": host.spec("true", container_id="c1")}
    storages = [tmpfs("a"), storage(source="1e/1f")]
    code, _ = await host.refused("CreateContainer", **request, storages=storages, timeout_s=0.1)
    assert code == 4
    # A creation of the same id waits for nothing: it is refused until the first one is undone.
    while (await _outcome(host, request)) == 6:
        await host.call("Check")
    await host.remove("c1")
    assert guest_state(ignored=run_dir) == before
    await host.finish()


async def _outcome(host: Host, request: dict[str, Any]) -> int:
    from host.client import AgentCallError

    try:
        await host.call("CreateContainer", **request)
    except AgentCallError as error:
        return error.code
    return 0


@BOTH_WIRES
async def test_hybrid_cgroups_are_named(wire: Wire, busybox_rootfs: Path, run_dir: Path) -> None:
    """In a mount namespace where the cgroup v2 tree is mounted beside the v1 hierarchies."""
    mount = "umount /sys/fs/cgroup/unified 2>/dev/null; mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
    prefix = ["unshare", "-m", "--propagation", "unchanged", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    with agent_process(run_dir, prefix=prefix) as agent:
        async with host_of(agent, wire, busybox_rootfs) as host:
            await host.call("CreateSandbox", sandbox_id="s1")
            request = {"container_id": "c1", "exec_id": "c1", "OCI": host.spec("true", container_id="c1")}
            code, message = await host.refused("CreateContainer", **request)
            assert code == 13
            assert "hybrid" in message
            assert "/sys/fs/cgroup/unified" in message
            await host.finish()
