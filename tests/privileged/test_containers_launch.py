"""Launches of real containers and execs: those that fail, and many at once."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent.containers.container import Container, ContainerStatus
from agent.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidRequest,
    LaunchFailed,
    NotFound,
)
from agent.linux.mount import bind_mount
from tests.privileged.containers import (
    CONTAINER_PREFIX,
    Runtime,
    children,
    everything,
    oci_process,
    oci_spec,
    status_of,
    until_gone,
)

# The soak test runs them with 400.
MANY = int(os.environ.get("PYKATA_MANY_CONTAINERS", "100"))

# 32 and 33 belong to glibc's threads (nptl(7)): nobody can change what they were at the start.
GLIBC_SIGNALS = 1 << 31 | 1 << 32


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("nonexistent", 127),
        ("/bin/nonexistent", 127),
        ("/bin/script-without-interpreter", 127),
        ("/bin/plain", 126),
        ("/bin", 126),
        ("/bin/foreign", 126),
        ("/bin/foreign-cpu", 126),
        ("/bin/empty", 126),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
async def test_a_command_that_cannot_be_run(
    runtime: Runtime, command: str, code: int, terminal: bool
) -> None:
    place = runtime.rootfs / "bin"
    for name, content in (
        ("plain", b"#!/bin/sh\n"),
        ("foreign", b"MZ\x00\x01"),
        ("foreign-cpu", b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x02\x00\x16" + bytes(44)),  # s390x
        ("empty", b""),
        ("script-without-interpreter", b"#! /usr/bin/nonexistent -x\n"),
    ):
        (place / name).write_bytes(content)
        (place / name).chmod(0o644 if name == "plain" else 0o755)
    before = children()
    with pytest.raises(LaunchFailed, match=f"^exit status {code}: ") as caught:
        await runtime.create(command, terminal=terminal)
    assert caught.value.exit_code == code
    await runtime.teardown.aclose()
    container = await runtime.run("sleep", "1000")
    with pytest.raises(LaunchFailed, match=f"^exit status {code}: ") as caught:
        await container.execute("e", oci_process(command, terminal=terminal), 0)
    assert caught.value.exit_code == code
    with pytest.raises(NotFound):
        container.process("e")
    await container.remove()
    assert children() == before


async def test_a_creation_that_the_runtime_refuses_leaves_nothing(runtime: Runtime) -> None:
    spec = oci_spec(runtime.rootfs, oci_process("true"))
    spec["mounts"].append(
        {"destination": "/x", "type": "bind", "source": "/nonexistent", "options": ["bind"]}
    )
    with pytest.raises(LaunchFailed, match=r"could not launch the process: .*/nonexistent"):
        await runtime.create(spec=spec)


@pytest.mark.parametrize("after_ms", [0.1, 1, 2, 3, 4, 5, 6, 8])
async def test_a_creation_that_takes_too_long_leaves_nothing(runtime: Runtime, after_ms: float) -> None:
    try:
        await runtime.create("sleep", "1000", launch_timeout_s=after_ms / 1000)
    except DeadlineExceeded as error:
        assert "crun did not finish" in str(error)  # noqa: PT017 - a quick machine may be in time
    await asyncio.wait_for(runtime.teardown.aclose(), 30)
    await until_gone(children())


async def test_what_a_killed_runtime_left_mounted_is_removed(runtime: Runtime) -> None:
    place = Path("/tmp/crun.Killed")
    place.touch()
    bind_mount("/usr/bin/crun", str(place), recursive=False, read_only=True)
    with pytest.raises(DeadlineExceeded):
        await runtime.create("sleep", "1000", launch_timeout_s=0.0001)
    assert not place.exists()


async def test_a_cancelled_creation_leaves_nothing(runtime: Runtime) -> None:
    for steps in range(0, 40, 3):
        creation = asyncio.create_task(runtime.create("sleep", "1000"))
        for _ in range(steps):
            await asyncio.sleep(0)
        creation.cancel()
        await asyncio.wait([creation])
    await asyncio.wait_for(runtime.teardown.aclose(), 30)


async def test_a_command_in_a_mount_is_found_there(runtime: Runtime, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tool").write_text("#!/bin/sh\necho from the mount\n")
    (tools / "tool").chmod(0o755)
    (runtime.rootfs / "opt").mkdir()
    (runtime.rootfs / "opt/tool").write_bytes(b"covered, and foreign")
    (runtime.rootfs / "opt/tool").chmod(0o755)
    spec = oci_spec(runtime.rootfs, oci_process("/opt/tool"))
    spec["mounts"].append({"destination": "/opt", "type": "bind", "source": str(tools), "options": ["bind"]})
    container = await runtime.run(spec=spec)
    assert (await runtime.output_of(container.init))[:2] == (0, b"from the mount\n")


async def test_many_containers_that_exit_at_once(runtime: Runtime) -> None:
    async def one(number: int) -> int:
        container = await runtime.run("sh", "-c", f"exit {number % 256}")
        code = await container.init.wait()
        await container.remove()
        return code

    codes = []
    for start in range(0, MANY, 10):
        codes += await asyncio.gather(*map(one, range(start, start + 10)))
    assert codes == [number % 256 for number in range(MANY)]


async def test_many_execs_that_exit_at_once(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")

    async def one(number: int) -> tuple[int, bytes]:
        process = await container.execute(
            f"e{number}", oci_process("sh", "-c", f"echo {number}; exit {number % 256}"), 0
        )
        return await process.wait(), await everything(process.stdout)

    answers = []
    for start in range(0, MANY, 10):
        answers += await asyncio.gather(*map(one, range(start, start + 10)))
    assert answers == [(number % 256, b"%d\n" % number) for number in range(MANY)]


async def test_exec_ids(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    process = await container.execute("e", oci_process("true"), 0)
    assert container.process("e") is process
    assert container.process(container.id) is container.init is container.process("init-of-" + container.id)
    for taken in ("e", container.id):
        with pytest.raises(AlreadyExists, match="already exists"):
            await container.execute(taken, oci_process("true"), 0)
    await runtime.output_of(process)
    again = await container.execute("e", oci_process("sh", "-c", "exit 2"), 0)
    assert await again.wait() == 2


async def test_a_second_container_with_the_same_id_leaves_the_first_alone(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    async with AsyncExitStack() as stack:
        with pytest.raises(AlreadyExists):
            await Container.create(
                runtime.plan("true", container_id=container.id),
                paths=runtime.paths,
                reaper=runtime.reaper,
                stack=stack,
            )
    process = await container.execute("e", oci_process("echo", "here"), 0)
    assert await everything(process.stdout) == b"here\n"


@pytest.mark.parametrize("name", ["shared", "sandbox", "image"])
async def test_an_id_that_would_take_a_directory_of_the_agent_s(runtime: Runtime, name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{name}' cannot be a container's id"):
        await runtime.create("true", container_id=name)


async def test_a_root_filesystem_that_is_missing_or_behind_a_link(runtime: Runtime) -> None:
    link = runtime.rootfs.parent / "link"
    link.symlink_to(runtime.rootfs)
    for root, message in ((runtime.rootfs / "gone", "does not exist"), (link, "leads over a link")):
        with pytest.raises(InvalidRequest, match=message):
            await runtime.create(spec=oci_spec(root, oci_process("true")))


async def test_a_container_does_not_inherit_from_the_agent(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "1")
    Path("/proc/self/oom_score_adj").write_text("100")  # as if the agent were protected, or the reverse
    try:
        command = (
            "sh",
            "-c",
            "cat /proc/self/oom_score_adj; env; grep Sig[BI] /proc/self/status; ls /proc/self/fd",
        )
        container = await runtime.run(*command)
        process = await runtime.run("sleep", "1000")
        executed = await process.execute("e", oci_process(*command), 0)
    finally:
        Path("/proc/self/oom_score_adj").write_text("0")
    for code, output, _ in (await runtime.output_of(container.init), await runtime.output_of(executed)):
        assert code == 0
        assert output.startswith(b"0\n")
        assert b"SECRET" not in output
        for mask in re.findall(rb"Sig(?:Blk|Ign):\t(\w+)", output):
            assert int(mask, 16) & ~GLIBC_SIGNALS == 0
        assert output.split()[-4:] == [b"0", b"1", b"2", b"3"]  # the last is ls's own


async def test_devices_are_denied_by_default(runtime: Runtime) -> None:
    script = "echo x > /dev/null && mknod /dev/disk b 254 0 && cat /dev/disk"
    code, _, errors = await runtime.output_of((await runtime.run("sh", "-c", script)).init)
    assert code == 1
    assert b"Operation not permitted" in errors


async def test_finished_execs_that_everybody_is_done_with_are_forgotten_in_the_end(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.containers.execs._REMEMBERED", 2)
    container = await runtime.run("sleep", "1000")
    unread = await container.execute("unread", oci_process("echo", "kept"), 0)
    await unread.wait()
    for number in range(5):
        process = await container.execute(f"e{number}", oci_process("true"), 0)
        assert await runtime.output_of(process) == (0, b"", b"")
    for number in (0, 1):
        with pytest.raises(NotFound):
            container.process(f"e{number}")
    assert container.process("e4") is process
    assert await everything(container.process("unread").stdout) == b"kept\n"


async def test_a_cgroup_in_which_somebody_else_runs(runtime: Runtime) -> None:
    other = await runtime.run("sleep", "1000", linux={"cgroupsPath": f"/{CONTAINER_PREFIX}other"})
    with pytest.raises(AlreadyExists, match="processes of somebody else"):
        await Container.create(
            runtime.plan("true", linux={"cgroupsPath": f"/{CONTAINER_PREFIX}other"}),
            paths=runtime.paths,
            reaper=runtime.reaper,
            stack=(stack := AsyncExitStack()),
        )
    await stack.aclose()
    assert status_of(other) is ContainerStatus.RUNNING
