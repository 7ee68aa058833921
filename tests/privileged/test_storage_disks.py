"""Disks that come empty: their filesystem is made in the guest."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import KernelRefused
from tests.fakes.disks import loop_device, make_image
from tests.privileged.storages import Kata, guest_below


@pytest.fixture
async def kata(run_dir: Path) -> AsyncIterator[Kata]:
    async with guest_below(run_dir) as kata:
        yield kata


async def test_a_disk_gets_a_new_filesystem_each_time(kata: Kata, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    with loop_device(image) as node:
        plain = kata.request("blk", node, "ext4", "sandbox/storage/scratch", "nosuid")
        fresh = dataclasses.replace(plain, driver_options=("create_filesystem",))
        async with contextlib.AsyncExitStack() as stack:
            with pytest.raises(KernelRefused, match="EINVAL"):
                await kata.attach(stack, plain)
        for request, contents in ((fresh, {"lost+found"}), (plain, {"lost+found", "file"})):
            async with contextlib.AsyncExitStack() as stack:
                await kata.attach(stack, request)
                place = Path(request.mount_point)
                assert "nosuid" in kata.entry("sandbox/storage/scratch").options
                assert {path.name for path in place.iterdir()} == contents
                (place / "file").touch()
        async with contextlib.AsyncExitStack() as stack:
            await kata.attach(stack, fresh)
            assert not (Path(fresh.mount_point) / "file").exists()


async def test_a_disk_in_use_keeps_its_filesystem(kata: Kata, tmp_path: Path) -> None:
    with loop_device(make_image(tmp_path / "disk", "ext4")) as node:
        async with contextlib.AsyncExitStack() as stack:
            await kata.attach(stack, kata.request("blk", node, "ext4", "first"))
            (kata.root / "first/file").touch()
            second = dataclasses.replace(
                kata.request("blk", node, "ext4", "second"), driver_options=("create_filesystem",)
            )
            with pytest.raises(KernelRefused, match=r"mkfs\.ext4 .* failed with 1: .*(mounted|in use)"):
                await kata.attach(stack, second)
            assert (kata.root / "first/file").exists()
