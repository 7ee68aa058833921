"""mkfs with the options that a scratch disk wants, on a plain file."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import KernelRefused, Unsupported
from agent.processes.reaper import Reaper
from agent.storage.filesystems import Filesystems

# Offsets in an ext4 superblock (Documentation/filesystems/ext4/super.rst).
SUPERBLOCK = 1024
RESERVED_BLOCKS, MAGIC, INODE_SIZE, COMPATIBLE_FEATURES = 0x8, 0x38, 0x58, 0x5C
HAS_JOURNAL = 0x4


@pytest.fixture
async def filesystems() -> AsyncIterator[Filesystems]:
    reaper = Reaper()
    reaper.start()
    yield Filesystems(reaper)
    reaper.stop()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(16 << 20)
    return path


async def test_an_ext4_for_scratch_space(filesystems: Filesystems, disk: Path) -> None:
    for _ in range(2):  # over what is there already, too
        await filesystems.make_ext4(str(disk))
    content = disk.read_bytes()[SUPERBLOCK : SUPERBLOCK + 1024]
    assert struct.unpack_from("<H", content, MAGIC) == (0xEF53,)
    assert struct.unpack_from("<H", content, INODE_SIZE) == (128,)
    assert struct.unpack_from("<I", content, RESERVED_BLOCKS) == (0,)
    assert struct.unpack_from("<I", content, COMPATIBLE_FEATURES)[0] & HAS_JOURNAL == 0


async def test_what_mkfs_says_is_told(filesystems: Filesystems, tmp_path: Path) -> None:
    with pytest.raises(KernelRefused, match=r"mkfs\.ext4 .*/none failed with 1: .*does not exist"):
        await filesystems.make_ext4(str(tmp_path / "none"))


async def test_a_guest_without_mkfs(
    filesystems: Filesystems, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.storage.filesystems._PROGRAM", "no-such-mkfs")
    with pytest.raises(Unsupported, match=r"cannot run no-such-mkfs: .*: the guest needs e2fsprogs"):
        await filesystems.make_ext4(str(disk))
