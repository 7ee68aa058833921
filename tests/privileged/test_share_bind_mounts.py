"""Bind mounts and the share on the real kernel."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from host import bind_mounts, share
from host.bind_mounts import BindMount, bind_mount, unmount_below, unmount_path
from host.container_config import Mount
from host.errors import HostError
from host.linux_mount import MountFlag, mount, read_mountinfo, set_propagation
from host.share import (
    SharedPath,
    bind_mount_container_rootfs,
    mount_shared_dir_mounts,
    remove_shared_path,
    setup_shared_path,
    unbind_container_rootfs,
)
from host.undo import UndoStack


def points_below(directory: Path) -> list[str]:
    """The mount points at and below `directory`, relative to it."""
    return sorted(
        os.path.relpath(entry.mount_point, directory)
        for entry in read_mountinfo()
        if Path(entry.mount_point).is_relative_to(directory)
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with a file in it."""
    path = tmp_path / "source"
    path.mkdir()
    (path / "file").write_text("content")
    return path


@pytest.fixture
def place(run_dir: Path) -> Iterator[Path]:
    """A directory to mount in, which nothing is left mounted below when the test has ended."""
    yield run_dir
    left = points_below(run_dir)
    unmount_below(run_dir)
    assert left == []


@pytest.fixture(params=["private", "shared"])
def sandbox_dir(request: pytest.FixtureRequest, run_dir: Path) -> Iterator[Path]:
    """A sandbox's directory on a mount of its own, whose propagation is private or shared."""
    parent = run_dir / "parent"
    parent.mkdir()
    mount("tmpfs", parent, "tmpfs")
    set_propagation(parent, MountFlag.PRIVATE if request.param == "private" else MountFlag.SHARED)
    directory = parent / "sandbox"
    yield directory
    left = points_below(directory)
    unmount_below(parent)
    assert left == []


def test_directory_appears_with_the_mount_point_made(source: Path, place: Path) -> None:
    bind = bind_mount(source, place / "a/b")
    assert (place / "a/b/file").read_text() == "content"
    assert (place / "a").stat().st_mode & 0o777 == 0o755
    bind.release()
    bind.release()
    assert list(place.iterdir()) == []


def test_file_appears_on_a_file_and_links_are_followed(source: Path, place: Path) -> None:
    (source / "link").symlink_to("file")
    bind = bind_mount(source / "link", place / "f")
    assert (place / "f").read_text() == "content"
    bind.release()
    assert list(place.iterdir()) == []


def test_mount_point_that_was_there_stays(source: Path, place: Path) -> None:
    (place / "there").mkdir()
    bind_mount(source, place / "there").release()
    assert (place / "there").is_dir()


def test_mounts_below_the_source_do_not_come_along(source: Path, place: Path) -> None:
    (source / "inner").mkdir()
    mount("tmpfs", source / "inner", "tmpfs")
    (source / "inner/hidden").touch()
    with contextlib.closing(contextlib.ExitStack()) as undo:
        undo.callback(unmount_path, source / "inner")
        undo.callback(bind_mount(source, place / "d").release)
        assert list((place / "d/inner").iterdir()) == []


def test_read_only_keeps_the_other_flags(source: Path, place: Path) -> None:
    flags = MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC
    (place / "limited").mkdir()
    mount("tmpfs", place / "limited", "tmpfs", flags)
    bind = bind_mount(place / "limited", place / "d", read_only=True)
    (entry,) = [entry for entry in read_mountinfo() if entry.mount_point == str(place / "d")]
    with pytest.raises(OSError, match="Read-only") as caught:
        (place / "d/new").touch()
    bind.release()
    unmount_path(place / "limited")
    assert caught.value.errno == errno.EROFS
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(entry.options)


@pytest.mark.parametrize(
    ("word", "tag"),
    [("shared", "shared:"), ("private", None), ("ubind", "unbindable"), ("unbindable", "unbindable")],
)
def test_propagation_words(source: Path, place: Path, word: str, tag: str | None) -> None:
    bind = bind_mount(source, place / "d", propagation=word)
    (entry,) = [entry for entry in read_mountinfo() if entry.mount_point == str(place / "d")]
    bind.release()
    assert [name for name in entry.tags if tag and name.startswith(tag)] == list(entry.tags)
    assert bool(entry.tags) is (tag is not None)


def test_slave_receives(source: Path, place: Path) -> None:
    sender = bind_mount(source, place / "sender", propagation="shared")
    receiver = bind_mount(place / "sender", place / "receiver", propagation="slave")
    (source / "inner").mkdir()
    inner = bind_mount("/etc", place / "sender/inner")
    assert (place / "receiver/inner/passwd").exists()
    for one in (inner, receiver, sender):
        one.release()


@pytest.mark.parametrize("step", ["mount", "set_propagation", "make_read_only"])
def test_a_failure_at_any_step_leaves_nothing(
    source: Path, place: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted") if step != "make_read_only" else HostError("no")

    monkeypatch.setattr(bind_mounts, step, fail)
    with pytest.raises(HostError):
        bind_mount(source, place / "a/b", read_only=True)
    assert points_below(place) == []
    assert list(place.iterdir()) == []


def test_release_after_someone_else_unmounted(source: Path, place: Path) -> None:
    bind = bind_mount(source, place / "d")
    unmount_path(place / "d")
    (place / "d").rmdir()
    bind.release()
    assert list(place.iterdir()) == []


def test_share_receives_whatever_the_parents_propagation(source: Path, sandbox_dir: Path) -> None:
    paths = setup_shared_path(sandbox_dir)
    undo = bind_mount(source, paths.mounts / "volume")
    assert (paths.shared / "volume/file").read_text() == "content"
    (paths.shared / "volume/from-guest").touch()
    assert (source / "from-guest").exists()
    with pytest.raises(OSError, match="Read-only"):
        (paths.shared / "made-by-guest").touch()
    undo.release()
    assert list(paths.shared.iterdir()) == []
    for directory in (paths.mounts, paths.shared):
        assert directory.stat().st_mode & 0o777 == 0o750
    remove_shared_path(sandbox_dir)
    remove_shared_path(sandbox_dir)
    assert list(sandbox_dir.iterdir()) == []


@pytest.mark.parametrize("step", ["_make_sender", "bind_mount"])
def test_share_that_cannot_be_made_leaves_nothing(
    sandbox_dir: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise HostError("no")

    monkeypatch.setattr(share, step, fail)
    with pytest.raises(HostError, match="no"):
        setup_shared_path(sandbox_dir)
    assert points_below(sandbox_dir) == []
    assert list(sandbox_dir.iterdir()) == []


async def test_volumes_appear_in_order_with_their_own_access(source: Path, sandbox_dir: Path) -> None:
    paths = setup_shared_path(sandbox_dir)
    undo = UndoStack()
    mounts = [
        Mount("/data", str(source), "bind", ("rbind", "rw")),
        Mount("/ro", str(source), "bind", ("rbind", "ro")),
        Mount("/etc/file", str(source / "file"), "bind", ("ro",)),
        Mount("/proc", "proc", "proc"),
    ]
    shared = mount_shared_dir_mounts(paths, "cid", mounts, undo)
    assert [one.mount.destination for one in shared] == ["/data", "/ro", "/etc/file"]
    writable, read_only, file = (one.name for one in shared)
    for side in (paths.mounts, paths.shared):
        (side / writable / "new").write_text("x")
        assert (side / file).read_text() == "content"
        # Also through the share: that is where the guest would write.
        with pytest.raises(OSError, match="Read-only"):
            (side / read_only / "new").write_text("y")
        with pytest.raises(OSError, match="Read-only"):
            (side / file).write_text("y")
    await undo.run()
    await undo.run()
    assert list(paths.mounts.iterdir()) == []
    assert sorted(path.name for path in source.iterdir()) == ["file", "new"]
    remove_shared_path(sandbox_dir)


async def test_a_volume_that_fails_takes_the_earlier_ones_with_it_in_reverse(
    source: Path, sandbox_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = setup_shared_path(sandbox_dir)
    released: list[str] = []

    def recorded(self: BindMount, original: object = BindMount.release) -> None:
        released.append(self.destination.name.rsplit("-", 1)[1])
        original(self)  # type: ignore[operator]  # the unbound method

    monkeypatch.setattr(BindMount, "release", recorded)
    mounts = [Mount(f"/{name}", str(source), "bind") for name in ("one", "two")]
    undo = UndoStack()
    with pytest.raises(HostError, match="Could not resolve symlink"):
        mount_shared_dir_mounts(paths, "cid", [*mounts, Mount("/three", "/nowhere", "bind")], undo)
    await undo.run()
    assert released == ["two", "one"]
    assert list(paths.mounts.iterdir()) == []
    remove_shared_path(sandbox_dir)


def test_root_filesystem_in_the_share_and_out_of_it_by_name(source: Path, sandbox_dir: Path) -> None:
    paths = setup_shared_path(sandbox_dir)
    bind_mount_container_rootfs(paths, "cid", source)
    assert (paths.shared / "cid/rootfs/file").read_text() == "content"
    unbind_container_rootfs(paths, "cid")
    unbind_container_rootfs(paths, "cid")
    assert list(paths.mounts.iterdir()) == []
    remove_shared_path(sandbox_dir)


def test_a_link_in_place_of_the_container_is_not_followed(source: Path, sandbox_dir: Path) -> None:
    paths = setup_shared_path(sandbox_dir)
    victim = bind_mount(source, sandbox_dir / "victim/rootfs")
    (paths.mounts / "cid").symlink_to(sandbox_dir / "victim")
    with pytest.raises(HostError, match="refusing to unmount through it"):
        unbind_container_rootfs(paths, "cid")
    assert (sandbox_dir / "victim/rootfs/file").exists()
    victim.release()
    (paths.mounts / "cid").unlink()
    remove_shared_path(sandbox_dir)


def test_what_a_killed_process_left_is_cleared_by_the_path_alone(source: Path, sandbox_dir: Path) -> None:
    paths = setup_shared_path(sandbox_dir)
    bind_mount_container_rootfs(paths, "cid", source)
    bind_mount(source / "file", paths.mounts / "cid-00-file")
    del paths
    remove_shared_path(sandbox_dir)
    assert list(sandbox_dir.iterdir()) == []
    assert (source / "file").read_text() == "content"


def test_clearing_up_never_removes_what_lies_there(source: Path, sandbox_dir: Path) -> None:
    paths = SharedPath.of(sandbox_dir)
    (paths.mounts / "cid").mkdir(parents=True)
    (paths.mounts / "cid/precious").write_text("kept")
    remove_shared_path(sandbox_dir)
    assert (paths.mounts / "cid/precious").read_text() == "kept"
