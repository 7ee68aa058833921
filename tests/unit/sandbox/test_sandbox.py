"""The sandbox's decisions: who may come in, and which pid namespace is whose."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent.errors import AlreadyExists, WrongState
from agent.sandbox.guest_hooks import find_guest_hooks
from agent.sandbox.sandbox import PidNamespace, Sandbox, SandboxState, UnknownContainer
from agent.storage.handler import StorageRequest
from agent.storage.mount_options import MountOptions
from tests.fakes.guest import FakeGuest


def sandbox() -> Sandbox[str]:
    return Sandbox()


def test_a_second_sandbox_is_refused_in_every_state_but_absent() -> None:
    box = sandbox()
    box.begin("a", "host")
    for state in (SandboxState.STARTING, SandboxState.RUNNING, SandboxState.STOPPING):
        box.state = state
        with pytest.raises(AlreadyExists, match=state.value):
            box.begin("b", "")
        assert box.id == "a"
    box.clear()
    box.begin("b", "")
    assert (box.id, box.state) == ("b", SandboxState.STARTING)


def test_an_id_is_taken_from_the_reservation_until_it_is_forgotten() -> None:
    box = sandbox()
    member = box.reserve("c1")
    with pytest.raises(AlreadyExists):
        box.reserve("c1")
    with pytest.raises(UnknownContainer):
        box.container("c1")  # still under creation
    member.container = "container"
    assert box.container("c1") == "container"
    box.forget(member)
    box.forget(member)
    with pytest.raises(UnknownContainer):
        box.member("c1")
    assert box.reserve("c1") is not member


def test_forgetting_an_old_place_leaves_its_successor() -> None:
    box = sandbox()
    old = box.reserve("c1")
    box.forget(old)
    new = box.reserve("c1")
    box.forget(old)
    assert box.members() == [new]


def test_nobody_comes_in_while_the_sandbox_ends() -> None:
    box = sandbox()
    box.begin("a", "")
    box.begin_stopping()
    with pytest.raises(WrongState, match="c1"):
        box.reserve("c1")
    box.clear()
    assert box.reserve("c1").id == "c1"


def test_pid_namespaces() -> None:
    box = sandbox()
    first = box.reserve("c1")
    assert box.choose_pid_namespace(first, shared=False, strict=True) == PidNamespace()
    assert box.choose_pid_namespace(first, shared=True, strict=True) == PidNamespace()
    second = box.reserve("c2")
    with pytest.raises(WrongState, match="c2"):
        box.choose_pid_namespace(second, shared=True, strict=True)
    assert box.choose_pid_namespace(second, shared=True, strict=False) == PidNamespace()
    box.pid_namespace = "/proc/1/fd/9"
    assert box.choose_pid_namespace(second, shared=True, strict=True) == PidNamespace("/proc/1/fd/9")
    assert box.choose_pid_namespace(second, shared=False, strict=True) == PidNamespace()
    box.shares_pid_namespace = True
    assert box.choose_pid_namespace(second, shared=False, strict=False) == PidNamespace("/proc/1/fd/9")


async def attach(box: Sandbox[str], guest: FakeGuest, mount_point: str) -> None:
    request = StorageRequest("ephemeral", "tmpfs", "tmpfs", mount_point)
    await box.storages.acquire(
        request, lambda: guest.mount("tmpfs", mount_point, "tmpfs", MountOptions.parse(()))
    )


async def test_kept_storages_go_with_the_sandbox_the_newest_first() -> None:
    box, guest = sandbox(), FakeGuest()
    box.begin("a", "")
    for mount_point in ("/a", "/a/b"):
        await attach(box, guest, mount_point)
        box.keep_storage(mount_point)
        box.keep_storage(mount_point)
        await box.storages.release(mount_point)
    assert [step.mount_point for step in guest.held] == ["/a", "/a/b"]
    guest.log.clear()
    await box.begin_stopping().aclose()
    assert [line.split()[3] for line in guest.log] == ["/a/b", "/a"]
    assert box.storages.mount_points() == []


async def test_a_sandbox_that_is_ending_keeps_nothing() -> None:
    box, guest = sandbox(), FakeGuest()
    box.begin("a", "")
    box.begin_stopping()
    await attach(box, guest, "/a")
    box.keep_storage("/a")
    await box.storages.release("/a")
    assert guest.held == []


def test_guest_hooks_are_the_executable_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "prestart").mkdir()
    for name, mode in (("20-b", 0o755), ("10-a", 0o100), ("30-not", 0o644)):
        (tmp_path / "prestart" / name).touch()
        (tmp_path / "prestart" / name).chmod(stat.S_IFREG | mode)
    (tmp_path / "prestart" / "05-link").symlink_to("20-b")
    (tmp_path / "prestart" / "06-dir").mkdir()
    hooks = find_guest_hooks(str(tmp_path))
    assert hooks["prestart"] == [
        {"path": f"{tmp_path}/prestart/10-a", "args": ["10-a", "prestart"]},
        {"path": f"{tmp_path}/prestart/20-b", "args": ["20-b", "prestart"]},
    ]
    assert hooks["poststart"] == hooks["poststop"] == []
