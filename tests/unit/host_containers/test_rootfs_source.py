"""Root filesystems told by their content."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from host.errors import HostError, InvalidInput
from host.ext4_image import TreeUsage, image_size, make_ext4_image, measure_tree
from host.linux_files import read_text_in_root
from host.rootfs_source import RootfsKind, identify_rootfs


def image(head: dict[int, bytes]) -> bytes:
    """A file of zeros with some bytes set."""
    content = bytearray(0x20000)
    for offset, data in head.items():
        content[offset : offset + len(data)] = data
    return bytes(content)


def test_directory_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    source = identify_rootfs(tmp_path / "link")
    assert (source.path, source.kind, source.fstype) == (tmp_path / "real", RootfsKind.DIRECTORY, "")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_whatever_its_name_and_compression(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "root.img", mode) as archive:  # type: ignore[call-overload]  # a mode as text
        archive.addfile(tarfile.TarInfo("etc"), io.BytesIO())
    assert identify_rootfs(tmp_path / "root.img").kind is RootfsKind.TAR


@pytest.mark.parametrize(
    ("head", "fstype"),
    [
        ({0x438: b"\x53\xef"}, "ext4"),
        ({0: b"XFSB"}, "xfs"),
        ({0x438: b"\x53\xef", 510: b"\x55\xaa"}, "ext4"),
    ],
)
def test_filesystem_images(tmp_path: Path, head: dict[int, bytes], fstype: str) -> None:
    (tmp_path / "root.tar").write_bytes(image(head))
    source = identify_rootfs(tmp_path / "root.tar")
    assert (source.kind, source.fstype) == (RootfsKind.IMAGE, fstype)


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        ({0: b"QFI\xfb"}, "is a qcow2 image: convert it"),
        ({0: b"\x28\xb5\x2f\xfd"}, "is compressed with zstd: unpack it first"),
        ({0: b"hsqs"}, "is a squashfs image"),
        ({0x10040: b"_BHRfS_M"}, "is a btrfs image"),
        ({510: b"\x55\xaa"}, "is a disk with a partition table"),
        ({}, "is neither a tar nor an ext4 or xfs image"),
        ({0: b"#!/bin/sh"}, "is neither a tar nor an ext4 or xfs image"),
    ],
)
def test_other_files_are_refused_with_advice(tmp_path: Path, head: dict[int, bytes], complaint: str) -> None:
    (tmp_path / "file").write_bytes(image(head))
    with pytest.raises(InvalidInput, match=complaint):
        identify_rootfs(tmp_path / "file")


def test_nothing_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^there is no root filesystem at .*/absent: name a directory"):
        identify_rootfs(tmp_path / "absent")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidInput, match="there is no root filesystem at"):
        identify_rootfs(tmp_path / "loop")


def test_a_fifo_is_no_root_filesystem(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidInput, match="neither a directory, a file nor a block device"):
        identify_rootfs(tmp_path / "fifo")


def test_account_files_are_read_inside_the_tree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "real").write_text("inside")
    (tmp_path / "real").write_text("outside")
    (tree / "etc/passwd").symlink_to("/real")
    (tree / "etc/group").symlink_to("../../../../real")
    (tree / "etc/shadow").symlink_to("/proc/self/root/etc/passwd")
    assert read_text_in_root(tree, "/etc/passwd") == "inside"
    assert read_text_in_root(tree, "/etc/group") == "inside"
    assert read_text_in_root(tree, "/etc/shadow") == ""
    assert read_text_in_root(tree, "/etc") == ""
    assert read_text_in_root(tree, "/real/below") == ""
    assert read_text_in_root(tree, "/real", limit=3) == "ins"
    os.mkfifo(tree / "fifo")
    assert read_text_in_root(tree, "/fifo") == ""


def test_hard_links_and_holes_are_measured_once(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_bytes(b"x" * 10_000)
    os.link(tree / "file", tree / "sub/again")
    with (tree / "hole").open("wb") as file:
        file.truncate(1 << 40)
    usage = measure_tree(tree)
    assert usage.inodes == 4
    assert 10_000 < usage.content_bytes < 100_000


def test_image_has_room_for_the_tree_and_what_shall_be_free() -> None:
    size, inodes = image_size(TreeUsage(100 << 20, 5000), 1 << 30)
    assert size % (1 << 20) == 0
    assert size > (1 << 30) + (100 << 20)
    assert inodes > 5000 + (1 << 30) // 16384


def test_image_holds_the_tree_as_it_was(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/su").write_text("content")
    (tree / "bin/su").chmod(0o4755)
    (tree / "link").symlink_to("/bin/su")
    os.mkfifo(tree / "fifo")
    make_ext4_image(tree, tmp_path / "image", free_bytes=8 << 20)
    source = identify_rootfs(tmp_path / "image")
    assert (source.kind, source.fstype) == (RootfsKind.IMAGE, "ext4")

    def debugfs(request: str) -> str:
        done = subprocess.run(
            ["debugfs", "-R", request, tmp_path / "image"], capture_output=True, text=True, check=True
        )
        return done.stdout

    assert debugfs("cat /bin/su") == "content"
    assert "Mode:  04755" in debugfs("stat /bin/su")
    assert 'Fast link dest: "/bin/su"' in debugfs("stat /link")
    assert "Type: FIFO" in debugfs("stat /fifo")
    # Sparse: the free part takes no room.
    assert os.stat(tmp_path / "image").st_blocks * 512 < (tmp_path / "image").stat().st_size // 2
    assert stat.S_IMODE((tree / "bin/su").stat().st_mode) == 0o4755


def test_image_of_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"no image of .* could be made"):
        make_ext4_image(tmp_path / "absent", tmp_path / "image")
