"""What later hosts ask of a container from outside: mounts of another one, and its last words."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.privileged.agents import AgentProcess, Host, agent_process, guest_state, host_of

NAME = "io.kubernetes.cri.container-name"
TERMINATION = "io.kubernetes.container.terminationMessagePath"


@pytest.fixture
def agent(run_dir: Path) -> Iterator[AgentProcess]:
    with agent_process(run_dir) as process:
        yield process


@pytest.fixture
async def host(agent: AgentProcess, busybox_rootfs: Path, run_dir: Path) -> AsyncIterator[Host]:
    async with host_of(agent, "ttrpc", busybox_rootfs) as host:
        before = guest_state(ignored=run_dir)
        await host.call("CreateSandbox", sandbox_id="s1")
        yield host
        await host.finish()
        assert guest_state(ignored=run_dir) == before


def spec(host: Host, container_id: str, script: str, name: str = "") -> Any:
    """A container that may mount."""
    document = host.spec("sh", "-c", script, container_id=container_id)
    may = ["CAP_SYS_ADMIN"]
    document.Process.Capabilities.CopyFrom(
        host.messages.LinuxCapabilities(Bounding=may, Effective=may, Permitted=may)
    )
    if name:
        document.Annotations[NAME] = name
    return document


def shared(source: str, path: str, name: str = "maker") -> list[dict[str, str]]:
    return [{"name": "m", "src_ctr": name, "src_path": source, "dst_ctr": "user", "dst_path": path}]


MAKE = "mkdir -p /mnt && mount -t tmpfs tmpfs /mnt && echo hello > /mnt/word"


async def test_a_mount_of_another_container(host: Host) -> None:
    made = f"{MAKE}; mkdir /mnt/sub && mount -t tmpfs t /mnt/sub && echo deep > /mnt/sub/word; read x"
    await host.run("maker", spec=spec(host, "maker", f"{made}; cat /mnt/back; sleep 1000", "maker"))
    script = "cat /new/place/word /new/place/sub/word; echo back > /new/place/back"
    await host.run("user", spec=spec(host, "user", script), shared_mounts=shared("/mnt/", "/new/place/"))
    assert await host.output("user") == b"hello\ndeep\n"
    await host.call("WriteStdin", container_id="maker", exec_id="maker", data=b"\n")
    assert await host.read("maker") == b"back\n"
    assert (await host.wait("user")) == 0


async def test_a_file(host: Host, busybox_rootfs: Path) -> None:
    make = "echo one > /a && mount -o bind /a /run/b; sleep 1000"
    (busybox_rootfs / "run/b").touch()
    await host.run("maker", spec=spec(host, "maker", make, "maker"))
    await host.run("user", spec=spec(host, "user", "cat /x/y"), shared_mounts=shared("/run/b", "/x/y"))
    assert await host.output("user") == b"one\n"


async def test_a_mount_that_comes_later(host: Host) -> None:
    await host.run("maker", spec=spec(host, "maker", f"read x; {MAKE}; sleep 1000", "maker"))
    creation = asyncio.create_task(
        host.run("user", spec=spec(host, "user", "cat /m/word"), shared_mounts=shared("/mnt", "/m"))
    )
    await host.call("Check")
    assert not creation.done()
    await host.call("WriteStdin", container_id="maker", exec_id="maker", data=b"\n")
    await creation
    assert await host.output("user") == b"hello\n"


async def test_what_is_not_there_is_left_out(host: Host) -> None:
    """No such container, and one that ends without having made it: not waited for."""
    await host.run("maker", spec=spec(host, "maker", "sleep 0.2", "maker"))
    for number, name in enumerate(("maker", "nobody", "")):
        user = f"user{number}"
        await asyncio.wait_for(
            host.run(user, spec=spec(host, user, "ls /m"), shared_mounts=shared("/mnt", "/m", name)), 5
        )
        assert await host.wait(user) != 0


async def test_a_target_never_leaves_its_container(host: Host, busybox_rootfs: Path, tmp_path: Path) -> None:
    """A link in the container's root leads to where the container would see it, not to the guest's."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (busybox_rootfs / "trap").symlink_to(outside)
    await host.run("maker", spec=spec(host, "maker", f"{MAKE}; sleep 1000", "maker"))
    code, message = await host.refused(
        "CreateContainer",
        container_id="trapped",
        OCI=spec(host, "trapped", "true"),
        shared_mounts=shared("/mnt", "/trap/in"),
    )
    assert (code, "/trap/in" in message) == (13, True), message
    assert (await host.refused("StatsContainer", container_id="trapped"))[0] == 3  # rolled back
    # Once the container has such a directory of its own, that is where the link leads.
    script = f"cat {outside}/in/word"
    (busybox_rootfs / str(outside).lstrip("/")).mkdir(parents=True)
    await host.run("user", spec=spec(host, "user", script), shared_mounts=shared("/mnt", "/trap/in"))
    assert await host.output("user") == b"hello\n"
    assert os.listdir(outside) == []
    assert str(outside) not in Path("/proc/self/mountinfo").read_text()


async def test_a_path_that_is_not_absolute(host: Host) -> None:
    code, message = await host.refused(
        "CreateContainer",
        container_id="user",
        OCI=spec(host, "user", "true"),
        shared_mounts=shared("mnt", "/m"),
    )
    assert (code, '"mnt"' in message) == (3, True)


async def ask(host: Host, container_id: str = "c1") -> str:
    answer = await host.call("GetDiagnosticData", log_type="termination_log", container_id=container_id)
    return str(answer.data)


async def test_the_termination_message(host: Host, run_dir: Path) -> None:
    source = run_dir / "termination-log"
    source.touch()
    document = spec(host, "c1", "printf 'failed: \\377' > /dev/termination-log")
    document.Annotations[TERMINATION] = "/dev/termination-log"
    mount = {
        "destination": "/dev/termination-log",
        "type": "bind",
        "source": str(source),
        "options": ["bind"],
    }
    document.Mounts.append(host.messages.Mount(**mount))
    await host.run("c1", spec=document)
    assert await host.wait("c1") == 0
    assert await ask(host) == "failed: \ufffd"
    source.write_bytes(b"x" * 5000)
    assert len(await ask(host)) == 4096
    source.unlink()
    assert await ask(host) == ""
    os.mkfifo(source)
    assert await ask(host) == ""
    source.unlink()
    source.symlink_to("/etc/passwd")
    code, message = await host.refused("GetDiagnosticData", log_type="termination_log", container_id="c1")
    assert (code, "ELOOP" in message) == (13, True)


async def test_no_termination_message(host: Host) -> None:
    await host.run("c1", "true")
    document = spec(host, "c2", "true")
    document.Annotations[TERMINATION] = "/dev/nowhere"
    await host.run("c2", spec=document)
    for container_id, log_type, expected in (
        ("c1", "termination_log", (13, "annotation")),
        ("c2", "termination_log", (13, "/dev/nowhere")),
        ("nobody", "termination_log", (13, "nobody")),
        ("c1", "core_dump", (3, "unsupported diagnostic log_type: core_dump")),
    ):
        code, message = await host.refused("GetDiagnosticData", log_type=log_type, container_id=container_id)
        assert (code, expected[1] in message) == (expected[0], True), message
