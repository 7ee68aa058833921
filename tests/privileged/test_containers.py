"""Real containers through crun: their life, their exit codes, what they leave behind (nothing)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent.containers.container import Container, ContainerStatus
from agent.errors import AlreadyExists, InvalidRequest, LaunchFailed, NotFound, Unavailable, WrongState
from agent.linux.mount import bind_mount
from tests.privileged.containers import (
    CONTAINER_PREFIX,
    Runtime,
    children,
    everything,
    machine_state,
    oci_process,
    oci_spec,
    running_runtime,
)


@pytest.fixture
async def runtime(run_dir: Path, busybox_rootfs: Path) -> AsyncIterator[Runtime]:
    """A runtime of this test's own, which must leave the machine as it was."""
    before = machine_state(ignored_below=run_dir)
    async with running_runtime(run_dir, busybox_rootfs) as runtime:
        during = machine_state(ignored_below=run_dir)["descriptors"]
        yield runtime
        await runtime.teardown.aclose()
        after = machine_state(ignored_below=run_dir)
        assert after.pop("descriptors") - during == set()
    before.pop("descriptors")
    assert after == before


def status_of(container: Container) -> ContainerStatus:
    """The state now; a plain attribute would be taken to stay what it was once asserted to be."""
    return container.status


async def test_life_of_a_container(runtime: Runtime) -> None:
    container = await runtime.create("sh", "-c", "echo out; echo err >&2; exit 37")
    assert status_of(container) is ContainerStatus.CREATED
    await container.start()
    assert await runtime.output_of(container.init) == (37, b"out\n", b"err\n")
    assert status_of(container) is ContainerStatus.STOPPED
    await container.remove()
    assert not Path(runtime.paths.bundles, container.id).exists()
    assert await container.init.wait() == 37


@pytest.mark.parametrize(
    ("script", "code"), [("true", 0), ("exit 255", 255), ("kill -9 $$", 137), ("sleep 60", 137)]
)
async def test_exit_code(runtime: Runtime, script: str, code: int) -> None:
    # As the first process of a pid namespace the shell would be immune to its own signals.
    container = await runtime.run("sleep", "1000")
    process = await container.execute("e", oci_process("sh", "-c", script), 0)
    if code == 137:
        process.send_signal(signal.SIGKILL)
    assert await process.wait() == code
    await container.signal(signal.SIGKILL, exec_id=container.id)
    assert await container.init.wait() == 137


async def test_states(runtime: Runtime) -> None:
    container = await runtime.create("sleep", "1000")
    await container.start()
    assert status_of(container) is ContainerStatus.RUNNING
    with pytest.raises(WrongState, match="is running, it should be created"):
        await container.start()
    with pytest.raises(WrongState, match="it is not paused"):
        await container.resume()
    await container.pause()
    assert status_of(container) is ContainerStatus.PAUSED
    with pytest.raises(WrongState, match="paused"):
        await container.execute("e", oci_process("true"), 0)
    await container.resume()
    assert status_of(container) is ContainerStatus.RUNNING
    await container.signal(signal.SIGKILL, exec_id=None)
    assert await container.init.wait() == 137
    assert status_of(container) is ContainerStatus.STOPPED
    for stopped in (container.start(), container.execute("e", oci_process("true"), 0), container.pause()):
        with pytest.raises(WrongState, match="stopped"):
            await stopped
    await container.signal(signal.SIGKILL, exec_id=None)


async def test_two_starts_at_once(runtime: Runtime) -> None:
    container = await runtime.create("sleep", "1000")
    results = await asyncio.gather(container.start(), container.start(), return_exceptions=True)
    assert sorted(map(type, results), key=str) == [type(None), WrongState]


async def test_start_after_init_was_killed(runtime: Runtime) -> None:
    container = await runtime.create("sleep", "1000")
    await container.signal(signal.SIGKILL, exec_id=container.id)
    assert await container.init.wait() == 137
    with pytest.raises(WrongState, match="is stopped"):
        await container.start()


async def test_a_paused_container_dies_of_sigkill(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    await container.pause()
    await container.signal(signal.SIGKILL, exec_id=None)
    assert await asyncio.wait_for(container.init.wait(), 10) == 137


async def test_other_signals_leave_a_paused_container_paused(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    await container.pause()
    await container.signal(signal.SIGUSR1, exec_id=None)
    assert status_of(container) is ContainerStatus.PAUSED
    frozen = Path("/sys/fs/cgroup/freezer", container.id, "freezer.state").read_text()
    assert frozen in ("FROZEN\n", "FREEZING\n")


async def test_a_paused_container_can_be_removed(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    await container.pause()
    await asyncio.wait_for(container.remove(), 10)
    assert await container.init.wait() == 137


async def test_a_signal_to_all_reaches_execs(runtime: Runtime) -> None:
    container = await runtime.run("sh", "-c", "trap 'exit 3' USR1; while :; do sleep 1000 & wait; done")
    process = await container.execute("e", oci_process("sleep", "1000"), 0)
    await container.signal(signal.SIGUSR1, exec_id=None)
    assert await process.wait() == 128 + signal.SIGUSR1


async def test_a_signal_that_does_not_exist(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    with pytest.raises(InvalidRequest, match="signal 99"):
        await container.signal(99, exec_id=container.id)
    with pytest.raises(NotFound, match="process x not found"):
        await container.signal(9, exec_id="x")


async def test_input(runtime: Runtime) -> None:
    container = await runtime.run("cat")
    data = bytes(range(256)) * 4000
    reading = asyncio.create_task(everything(container.init.stdout))
    assert await container.init.stdin.write(data) == len(data)
    container.init.stdin.close()
    assert await reading == data
    assert await container.init.wait() == 0
    with pytest.raises(Unavailable):
        await container.init.stdin.write(b"more")


async def test_a_late_reader_gets_all_that_fits_the_pipe(runtime: Runtime) -> None:
    container = await runtime.run("sh", "-c", "seq 1 9000; echo sorry >&2")
    assert await container.init.wait() == 0
    assert await everything(container.init.stdout, 1000) == b"".join(b"%d\n" % n for n in range(1, 9001))
    assert await everything(container.init.stderr) == b"sorry\n"


@pytest.mark.parametrize("pipe_size", [0, 4096, 1 << 20])
async def test_much_output_arrives_whole(runtime: Runtime, pipe_size: int) -> None:
    container = await runtime.run("seq", "1", "300000", pipe_size=pipe_size)
    output = await everything(container.init.stdout)
    assert output == b"".join(b"%d\n" % n for n in range(1, 300001))
    assert await container.init.wait() == 0


async def test_a_grandchild_that_keeps_the_pipe_holds_nobody_up(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    script = "setsid sleep 1000 & echo said"
    process = await container.execute("e", oci_process("sh", "-c", script), 0)
    assert await asyncio.wait_for(process.wait(), 5) == 0
    assert await asyncio.wait_for(everything(process.stdout), 5) == b"said\n"


async def test_a_grandchild_that_keeps_the_terminal_holds_nobody_up(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    script = "trap '' HUP; sleep 1000 & echo said"
    process = await container.execute("e", oci_process("sh", "-c", script, terminal=True), 0)
    assert await asyncio.wait_for(process.wait(), 5) == 0
    assert await asyncio.wait_for(everything(process.stdout), 5) == b"said\r\n"


async def test_terminal(runtime: Runtime) -> None:
    script = (
        "tty; stty size; trap 'stty size; exit 4' WINCH; echo ready;"
        "read line; echo got $line; while :; do sleep 0.1; done"
    )
    container = await runtime.create("sh", "-c", script, terminal=True)
    init = container.init
    init.resize(24, 80)
    await container.start()
    output = b""
    while b"ready" not in output:
        output += await init.stdout.read(4096)
    assert output.split() == [b"/dev/pts/0", b"24", b"80", b"ready"]
    init.stdin.close()  # a terminal stays open: its output comes over the same line
    await init.stdin.write(b"hello\n")
    while b"got hello" not in output:
        output += await init.stdout.read(4096)
    init.resize(50, 200)
    assert await init.wait() == 4
    assert (await everything(init.stderr)).split()[-2:] == [b"50", b"200"]
    with pytest.raises(Unavailable, match="no tty"):
        init.resize(1, 1)


async def test_a_terminal_is_the_controlling_one(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000", terminal=True)
    process = await container.execute(
        "e", oci_process("sh", "-c", "echo to-the-tty > /dev/tty; sleep 1000", terminal=True), 0
    )
    assert await process.stdout.read(100) == b"to-the-tty\r\n"
    await process.stdin.write(b"\x03")  # Ctrl-C
    assert await asyncio.wait_for(process.wait(), 5) == 128 + signal.SIGINT


async def test_without_a_terminal_there_is_no_size(runtime: Runtime) -> None:
    container = await runtime.create("true")
    with pytest.raises(Unavailable, match="no tty"):
        container.init.resize(24, 80)


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
        container = await runtime.run("sh", "-c", f"exit {number}")
        code = await container.init.wait()
        await container.remove()
        return code

    codes = []
    for start in range(0, 100, 10):
        codes += await asyncio.gather(*map(one, range(start, start + 10)))
    assert codes == list(range(100))


async def test_many_execs_that_exit_at_once(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")

    async def one(number: int) -> tuple[int, bytes]:
        process = await container.execute(
            f"e{number}", oci_process("sh", "-c", f"echo {number}; exit {number}"), 0
        )
        return await process.wait(), await everything(process.stdout)

    answers = []
    for start in range(0, 100, 10):
        answers += await asyncio.gather(*map(one, range(start, start + 10)))
    assert answers == [(number, b"%d\n" % number) for number in range(100)]


async def test_execs_nobody_waits_for_do_not_hold_up_the_end_of_the_container(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    for number in range(5):
        await container.execute(f"quick{number}", oci_process("true"), 0)
        await container.execute(f"slow{number}", oci_process("sleep", "1000"), 0)
    await container.signal(signal.SIGKILL, exec_id=container.id)
    assert await asyncio.wait_for(container.init.wait(), 5) == 137
    assert await asyncio.wait_for(container.process("slow3").wait(), 5) == 137
    assert await container.process("quick3").wait() == 0


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


async def test_remove_can_be_joined_and_repeated(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    first = asyncio.create_task(container.remove())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(container.remove(), container.remove())
    await container.remove()
    assert first.cancelled()
    assert not Path(runtime.paths.bundles, container.id).exists()


async def test_removal_unmounts_what_stands_in_the_bundle_and_deletes_none_of_it(
    runtime: Runtime, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep")
    bundle = Path(runtime.paths.bundles, f"{CONTAINER_PREFIX}storage")
    (bundle / "storage").mkdir(parents=True)
    bind_mount(str(precious), f"{bundle}/storage")
    container = await runtime.run("sleep", "1000", container_id=f"{CONTAINER_PREFIX}storage")
    (runtime.rootfs / "kept").write_text("too")
    await container.remove()
    assert (precious / "file").read_text() == "keep"
    assert (runtime.rootfs / "kept").read_text() == "too"
    assert not bundle.exists()


async def test_the_cgroups_above_the_container_s_go_with_the_last_container(runtime: Runtime) -> None:
    pod = f"{CONTAINER_PREFIX}pod"
    one = await runtime.run("sleep", "1000", linux={"cgroupsPath": f"/{pod}/a/one"})
    two = await runtime.run("sleep", "1000", linux={"cgroupsPath": f"/{pod}/a/two"})
    await one.remove()
    assert any(path.is_dir() for path in Path("/sys/fs/cgroup").glob(f"*/{pod}/a/two"))
    await two.remove()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{pod}"))


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
        assert b"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n" in output
        assert output.split()[-4:] == [b"0", b"1", b"2", b"3"]  # the last is ls's own


async def test_devices_are_denied_by_default(runtime: Runtime) -> None:
    script = "echo x > /dev/null && mknod /dev/disk b 254 0 && cat /dev/disk"
    code, _, errors = await runtime.output_of((await runtime.run("sh", "-c", script)).init)
    assert code == 1
    assert b"Operation not permitted" in errors


async def test_another_user_may_write_to_its_own_output(runtime: Runtime) -> None:
    user = {"uid": 1000, "gid": 1000}
    container = await runtime.run("sh", "-c", "id -u; echo again > /proc/self/fd/1", user=user)
    assert (await runtime.output_of(container.init))[:2] == (0, b"1000\nagain\n")


async def test_removal_while_an_exec_is_under_way(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    launches = [
        asyncio.create_task(container.execute(f"e{n}", oci_process("sleep", "1000"), 0)) for n in range(4)
    ]
    await asyncio.sleep(0)
    await asyncio.wait_for(container.remove(), 20)
    results = await asyncio.gather(*launches, return_exceptions=True)
    for result in results:
        assert isinstance(result, WrongState) or (
            not isinstance(result, BaseException) and await result.wait() == 137
        )


async def test_remove_ends_those_who_wait_and_read(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    waiting = asyncio.create_task(container.init.wait())
    reading = asyncio.create_task(container.init.stdout.read(100))
    await asyncio.sleep(0)
    await container.remove()
    assert await waiting == 137
    assert await reading == b""


async def test_update(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    await container.update({"pids": {"limit": 77}})
    [limit] = Path("/sys/fs/cgroup/pids").glob(f"{container.id}/pids.max")
    assert limit.read_text() == "77\n"
