"""Overlays on the real kernel: what is written lies in the bundle, and goes with it."""

from __future__ import annotations

import contextlib
import dataclasses
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.containers.bundle import Bundle
from agent.errors import AgentError, InvalidRequest, KernelRefused
from agent.storage.handler import StorageRequest
from tests.privileged.storages import Kata, guest_below

WRITABLE = "io.katacontainers.fs-opt.overlay-rw"
MAKE = "io.katacontainers.volume.overlayfs.create_directory="


@pytest.fixture
async def kata(run_dir: Path) -> AsyncIterator[Kata]:
    async with guest_below(run_dir) as kata:
        yield kata


@pytest.fixture
def layers(tmp_path: Path) -> str:
    """Two layers, as an option: the upper one hides a file of the lower one."""
    for name, files in (("top", ("both",)), ("bottom", ("both", "only"))):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text(name)
    return f"lowerdir={tmp_path}/top:{tmp_path}/bottom"


def overlay(kata: Kata, *options: str, make: tuple[Path, ...] = ()) -> StorageRequest:
    request = kata.request("overlayfs", "overlay", "overlay", "c1/rootfs", *options)
    return dataclasses.replace(request, driver_options=tuple(f"{MAKE}{path}" for path in make))


async def test_layers_show_through_and_are_not_written_to(kata: Kata, layers: str, tmp_path: Path) -> None:
    bundle, rootfs = kata.root / "c1", kata.root / "c1/rootfs"
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, overlay(kata, WRITABLE, layers, "nodev"), bundle=str(bundle))
        assert {path.name: path.read_text() for path in rootfs.iterdir()} == {"both": "top", "only": "bottom"}
        assert "nodev" in kata.entry("c1/rootfs").options
        (rootfs / "only").write_text("changed")
        (rootfs / "both").unlink()
        assert (bundle / "upper/only").read_text() == "changed"
        assert stat.S_ISCHR((bundle / "upper/both").lstat().st_mode), "a whiteout"
    assert (tmp_path / "top/both").read_text() == "top"
    assert (tmp_path / "bottom/only").read_text() == "bottom"
    assert list(kata.root.iterdir()) == []


async def test_without_a_writable_layer_nothing_is_written(kata: Kata, layers: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, overlay(kata, layers, "io.katacontainers.fs-opt.layer=eA=="))
        with pytest.raises(OSError, match="Read-only"):
            (kata.root / "c1/rootfs/new").touch()


async def test_a_busy_overlay_keeps_what_was_written(kata: Kata, layers: str) -> None:
    bundle = kata.root / "c1"
    stack = contextlib.AsyncExitStack()
    await kata.attach(stack, overlay(kata, WRITABLE, layers), bundle=str(bundle))
    with (bundle / "rootfs/new").open("w"):
        with pytest.raises(KernelRefused, match="EBUSY"):
            await stack.aclose()
        assert (bundle / "upper/new").exists()
        assert (bundle / "rootfs/only").exists()
    await kata.ledger.release_leftovers()


async def test_a_bundle_that_went_first_takes_the_overlay_along(kata: Kata, layers: str) -> None:
    bundle = Bundle(f"{kata.root}/c1")
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, overlay(kata, WRITABLE, layers), bundle=bundle.path)
        (kata.root / "c1/rootfs/new").touch()
        bundle.remove()
        assert list(kata.root.iterdir()) == []


async def test_directories_are_made_and_those_that_were_there_stay_as_they_were(
    kata: Kata, layers: str
) -> None:
    there, missing = kata.root / "there", kata.root / "deep/er/missing"
    there.mkdir(mode=0o700)
    (there / "file").touch()
    request = overlay(kata, layers, f"upperdir={there}", f"workdir={missing}", make=(there, missing))
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, request)
        assert stat.S_IMODE(there.stat().st_mode) == 0o700
        assert (kata.root / "c1/rootfs/file").exists()
        (kata.root / "c1/rootfs/new").touch()
    assert sorted(path.name for path in kata.root.rglob("*")) == ["file", "new", "there"]
    for path in (there / "file", there / "new"):
        path.unlink()
    there.rmdir()


async def test_a_directory_may_be_made_below_the_roots_alone(kata: Kata, layers: str, tmp_path: Path) -> None:
    (kata.root / "link").symlink_to(tmp_path)
    for path in (tmp_path / "outside", kata.root / "link/outside", kata.root / "../outside"):
        async with contextlib.AsyncExitStack() as stack:
            with pytest.raises(InvalidRequest):
                await kata.attach(stack, overlay(kata, layers, make=(kata.root / "first", path)))
    assert not (tmp_path / "outside").exists()
    assert [path.name for path in kata.root.iterdir()] == ["link"]
    (kata.root / "link").unlink()


@pytest.mark.parametrize("options", [("lowerdir=/no/such/layer",), ("no-such-option",), ()])
async def test_what_the_kernel_refuses_leaves_nothing(kata: Kata, options: tuple[str, ...]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(AgentError, match=r"mount -t overlay overlay -> .*/c1/rootfs failed"):
            await kata.attach(stack, overlay(kata, WRITABLE, *options), bundle=f"{kata.root}/c1")
    assert list(kata.root.iterdir()) == []
