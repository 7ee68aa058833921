"""How volumes grow: which tool is called for what, with tools that only take notes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.devices.capacity import Disk
from agent.devices.wait import Devices
from agent.errors import InvalidRequest, KernelRefused, Unsupported
from agent.linux.mountinfo import MountEntry, parse_line
from agent.processes.reaper import Reaper
from agent.storage import volumes
from agent.storage.volumes import grow_volume, volume_usage

MIB = 1 << 20
GEOMETRY = """meta-data=/dev/loop0  isize=512    agcount=4, agsize=19200 blks
data     =                       bsize=4096   blocks=76800, imaxpct=25
log      =internal log           bsize=4096   blocks=16384, version=2
"""


class GrownDevices(Devices):
    """Every disk is vdb and has 900 MiB."""

    async def grown_disk(self, number: tuple[int, int], size_bytes: int) -> Disk:
        assert number == (254, 16)
        return Disk("vdb", 900 * MIB)


class Tools:
    """Programs in the place of the real ones; each writes down how it is called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.log.touch()

    def put(self, name: str, *, says: str = "", status: int = 0) -> str:
        path = self.directory / name
        (self.directory / f"{name}.says").write_text(says)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\ncat {path}.says\nexit {status}\n')
        path.chmod(0o755)
        return str(path)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools(tmp_path)
    monkeypatch.setattr(volumes, "_RESIZE2FS", tools.put("resize2fs"))
    monkeypatch.setattr(volumes, "_XFS_GROWFS", tools.put("xfs_growfs", says=GEOMETRY))
    return tools


@pytest.fixture
async def reaper() -> AsyncIterator[Reaper]:
    reaper = Reaper()
    reaper.start()
    yield reaper
    reaper.stop()


def on(monkeypatch: pytest.MonkeyPatch, fstype: str, mount_point: Path) -> None:
    """Have every path lie on a filesystem of this kind."""
    entry: MountEntry = parse_line(f"1 0 254:16 / {mount_point} rw - {fstype} /dev/vdb rw")
    monkeypatch.setattr(volumes, "_mount_behind", lambda path: entry)


async def grow(reaper: Reaper, size_bytes: int) -> None:
    await grow_volume("/volume", size_bytes, devices=GrownDevices(), reaper=reaper)


@pytest.mark.parametrize(
    ("size_bytes", "calls"),
    [
        (0, ["-n", "-D 230400"]),
        (900 * MIB, ["-n", "-D 230400"]),
        (600 * MIB + 4095, ["-n", "-D 153600"]),
        (300 * MIB, ["-n"]),
    ],
)
async def test_xfs_counts_in_blocks(
    tools: Tools, reaper: Reaper, monkeypatch: pytest.MonkeyPatch, size_bytes: int, calls: list[str]
) -> None:
    on(monkeypatch, "xfs", tools.directory)
    await grow(reaper, size_bytes)
    assert tools.calls == [f"xfs_growfs {call} {tools.directory}" for call in calls]


async def test_xfs_is_never_asked_to_shrink(
    tools: Tools, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer kernels would: it is experimental there, and nobody asked."""
    on(monkeypatch, "xfs", tools.directory)
    with pytest.raises(InvalidRequest, match="cannot shrink to 314572799"):
        await grow(reaper, 300 * MIB - 1)
    assert [call.split()[1] for call in tools.calls] == ["-n"]


async def test_an_xfs_that_tells_no_size(
    tools: Tools, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "xfs", tools.directory)
    tools.put("xfs_growfs", says="what?")
    with pytest.raises(KernelRefused, match=r"tells no size: what\?"):
        await grow(reaper, 0)


async def test_ext4_is_named_by_its_disk(
    tools: Tools, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "ext4", tools.directory)
    status = os.statvfs(tools.directory)
    size = status.f_blocks * status.f_frsize + 5000
    await grow(reaper, size)
    assert tools.calls == [f"resize2fs /dev/vdb {size // 1024}K"]


async def test_a_tool_that_fails_is_quoted(
    tools: Tools, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "xfs", tools.directory)
    tools.put("xfs_growfs", says="no space\nin sight\n", status=3)
    with pytest.raises(KernelRefused, match="failed with 3: no space in sight"):
        await grow(reaper, 0)


async def test_a_guest_without_the_tool(
    tools: Tools, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "xfs", tools.directory)
    (tools.directory / "xfs_growfs").unlink()
    with pytest.raises(Unsupported, match="the guest needs xfsprogs"):
        await grow(reaper, 0)


@pytest.mark.parametrize("fstype", ["tmpfs", "overlay", "9p", "virtiofs", "btrfs"])
async def test_kinds_that_do_not_grow(
    tools: Tools, reaper: Reaper, monkeypatch: pytest.MonkeyPatch, fstype: str
) -> None:
    on(monkeypatch, fstype, tools.directory)
    with pytest.raises(Unsupported, match=f"type {fstype} does not grow"):
        await grow(reaper, 0)
    assert tools.calls == []


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(InvalidRequest, match="is no path of a volume"):
        volume_usage(path)
