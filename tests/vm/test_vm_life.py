"""A machine's life without a guest worth the name: starts that fail, deaths, and what they leave."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from host.errors import VmFailed
from host.network import PublishedPort
from host.vm.children import Child
from host.vm.config import GuestImage, VmConfig
from host.vm.disks import Disk, make_overlay
from host.vm.kvm import accelerator_works
from host.vm.qemu import Vm
from tests.vm.machines import guest_directory, leftovers, short_directory


@pytest_asyncio.fixture
async def directory() -> AsyncIterator[Path]:
    async with short_directory("life") as path:
        yield path


def config(directory: Path, **changes: object) -> VmConfig:
    figures = {
        "name": "life",
        "run_dir": directory / "vm",
        "image": GuestImage(guest_directory(), "image"),
        "shared_fs": "none",
    }
    return VmConfig(**figures | changes)  # type: ignore[arg-type] # a dict of mixed fields


def test_the_probe_machine_runs_where_it_must() -> None:
    assert accelerator_works("tcg")


async def test_killed_under_a_caller(directory: Path, count_boot: Callable[[], None]) -> None:
    vm = Vm(config(directory))
    count_boot()
    await vm.start()
    pids = vm.pids()
    waiting = asyncio.create_task(vm.while_running(asyncio.Event().wait()))
    await asyncio.sleep(0)
    os.kill(pids["qemu"], signal.SIGKILL)
    with pytest.raises(VmFailed, match="the virtual machine life ended unexpectedly"):
        await waiting
    assert await vm.wait_exit() == -signal.SIGKILL
    assert not vm.running
    with pytest.raises(VmFailed, match="is not running"):
        await vm.plug_block(Disk("late", directory / "none"), "virtio-blk")
    await vm.stop()
    await vm.stop()
    assert leftovers(vm, pids) == []


async def test_a_guest_without_its_root_tells_why(directory: Path, count_boot: Callable[[], None]) -> None:
    """The last words on the console are in the error, not in a log that nobody opens."""
    vm = Vm(config(directory, kernel_params=("root=/dev/vdz",)))
    count_boot()
    with pytest.raises(VmFailed, match="vdz"):
        await vm.start()
    assert leftovers(vm, vm.pids()) == []


async def test_a_port_that_is_taken(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        vm = Vm(config(directory, network="user", published_ports=(PublishedPort(port, 80),)))
        with pytest.raises(VmFailed, match=rf"qemu could not start the machine: .*127\.0\.0\.1:{port}"):
            await vm.start()
    assert leftovers(vm, vm.pids()) == []


async def test_a_start_that_is_cancelled_leaves_nothing(directory: Path) -> None:
    started = asyncio.Event()

    class Observed(Vm):
        async def _connect_qmp(self, qemu: Child) -> None:
            started.set()
            await super()._connect_qmp(qemu)

    vm = Observed(config(directory))
    starting = asyncio.create_task(vm.start())
    await asyncio.wait_for(started.wait(), 20)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert "qemu" in vm.pids()
    assert leftovers(vm, vm.pids()) == []


async def test_planted_leftovers_are_found(directory: Path) -> None:
    vm = Vm(config(directory))
    vm.config.run_dir.mkdir()
    (vm.config.run_dir / "forgotten").touch()
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(vm.config.run_dir / "planted.sock"))
        found = leftovers(vm, {"self": os.getpid()})
    assert sorted(line.split()[0] for line in found) == ["file", "file", "process", "socket"]


def test_an_overlay_takes_the_writes(directory: Path) -> None:
    base = directory / "base.img"
    base.write_bytes(bytes(1024 * 1024))
    make_overlay(base, directory / "over.qcow2")
    assert (directory / "over.qcow2").read_bytes().startswith(b"QFI\xfb")
    assert base.read_bytes() == bytes(1024 * 1024)
