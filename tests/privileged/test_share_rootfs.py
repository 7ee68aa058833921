"""Root filesystems made ready for a guest, and the user's own left as it was."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from host import rootfs
from host.bind_mounts import unmount_below, unmount_path
from host.container_config import BlockRootfs, SharedRootfs
from host.errors import HostError, InvalidInput
from host.ext4_image import make_ext4_image
from host.linux_mount import mount, read_mountinfo
from host.rootfs import prepare_rootfs, release_rootfs

FREE = 8 << 20


def tree_hash(root: Path) -> str:
    """A hash of all that a tree is: names, modes, owners, times, contents, links, attributes."""
    digest = hashlib.sha256()
    for parent, directories, files in os.walk(root):
        directories.sort()
        for name in sorted((*directories, *files, ".")):
            path = Path(parent, name)
            status = path.lstat()
            links = 1 if path.is_dir() else status.st_nlink  # an overlay does not count directories' links
            digest.update(
                f"{path.relative_to(root)} {status.st_mode:o} {status.st_uid}:{status.st_gid} "
                f"{status.st_mtime_ns} {links} {status.st_rdev}\n".encode()
            )
            if path.is_symlink():
                digest.update(os.readlink(path).encode())
            elif path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()


def loop_devices_on(*directories: Path) -> list[str]:
    """The files below `directories` that loop devices show."""
    files = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # somebody else's, detached while we looked
            files.append(path.read_text().strip())
    return [file for file in files if any(Path(file).is_relative_to(place) for place in directories)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small root filesystem, with characters in its path that overlay's options reserve."""
    path = tmp_path / "root:a,b"
    for name in ("bin", "etc", "tmp"):
        (path / name).mkdir(parents=True)
    (path / "tmp").chmod(0o1777)
    (path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:33:33::/w:/bin/sh\n")
    (path / "etc/group").write_text("web:x:33:\n")
    (path / "bin/su").write_text("suid")
    os.chown(path / "bin/su", 33, 34)
    (path / "bin/su").chmod(0o4750)
    (path / "bin/again").hardlink_to(path / "bin/su")
    (path / "bin/sh").symlink_to("/bin/su")
    os.mknod(path / "null", 0o20666, os.makedev(1, 3))
    return path


@pytest.fixture
def work_dir(run_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """Where a root filesystem is prepared; nothing must be left of it, nor a loop device."""
    yield run_dir / "work"
    left = [entry.mount_point for entry in read_mountinfo() if entry.mount_point.startswith(str(run_dir))]
    unmount_below(run_dir)
    assert left == []
    assert loop_devices_on(run_dir, tmp_path) == []
    assert not (run_dir / "work").exists()


@pytest.fixture
def image(root: Path, tmp_path: Path) -> Path:
    """The same as an ext4 image."""
    path = tmp_path / "root.img"
    make_ext4_image(root, path, free_bytes=FREE)
    return path


def shared_tree(prepared: rootfs.PreparedRootfs) -> Path:
    """The directory that goes into the share."""
    assert isinstance(prepared.rootfs, SharedRootfs)
    return prepared.rootfs.path


def block_image(prepared: rootfs.PreparedRootfs) -> BlockRootfs:
    """The disk that goes into the machine."""
    assert isinstance(prepared.rootfs, BlockRootfs)
    return prepared.rootfs


def scribble(tree: Path) -> None:
    """Do to a root filesystem what a container may do."""
    (tree / "new").write_text("new")
    (tree / "etc/passwd").write_text("gone")
    (tree / "bin/sh").unlink()
    (tree / "tmp").chmod(0o700)
    (tree / "bin/su").rename(tree / "etc/su")


def test_directory_under_an_overlay_is_never_written(root: Path, work_dir: Path) -> None:
    before = tree_hash(root)
    prepared = prepare_rootfs(root, work_dir, "shared")
    tree = shared_tree(prepared)
    assert tree_hash(tree) == before
    assert prepared.passwd.startswith("root:x:0:0")
    assert prepared.group == "web:x:33:\n"
    scribble(tree)
    assert tree_hash(root) == before
    assert (tree / "new").read_text() == "new"
    release_rootfs(work_dir)
    release_rootfs(work_dir)
    assert tree_hash(root) == before


def test_image_under_an_overlay_is_never_written(image: Path, work_dir: Path) -> None:
    before = image.read_bytes()
    tree = shared_tree(prepare_rootfs(image, work_dir, "shared"))
    assert (tree / "bin/su").stat().st_mode & 0o7777 == 0o4750
    scribble(tree)
    release_rootfs(work_dir)
    assert image.read_bytes() == before


def test_xfs_image_is_mounted_too(tmp_path: Path, work_dir: Path) -> None:
    image = tmp_path / "xfs.img"
    with image.open("wb") as file:
        file.truncate(320 << 20)  # mkfs.xfs makes none below 300 MiB
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    prepared = prepare_rootfs(image, work_dir, "virtio-blk")
    assert (block_image(prepared).fstype, block_image(prepared).format) == ("xfs", "qcow2")
    assert (prepared.passwd, prepared.group) == ("", "")
    release_rootfs(work_dir)
    tree = shared_tree(prepare_rootfs(image, work_dir, "shared"))
    (tree / "new").touch()
    assert [path.name for path in tree.iterdir()] == ["new"]
    release_rootfs(work_dir)


def test_tar_is_unpacked_whole(root: Path, tmp_path: Path, work_dir: Path) -> None:
    archive = tmp_path / "root.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root, arcname=".")
    before = archive.read_bytes()
    tree = shared_tree(prepare_rootfs(archive, work_dir, "shared"))
    su = (tree / "bin/su").stat()
    assert (su.st_mode & 0o7777, su.st_uid, su.st_gid, su.st_nlink) == (0o4750, 33, 34, 2)
    assert (tree / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert os.readlink(tree / "bin/sh") == "/bin/su"
    assert (tree / "null").stat().st_rdev == os.makedev(1, 3)
    scribble(tree)
    release_rootfs(work_dir)
    assert archive.read_bytes() == before


@pytest.mark.parametrize("form", ["directory", "tar"])
def test_disk_of_a_tree(form: str, root: Path, tmp_path: Path, work_dir: Path) -> None:
    given = root
    if form == "tar":
        given = tmp_path / "root.tar"
        with tarfile.open(given, "w") as tar:
            tar.add(root, arcname=".")
    prepared = prepare_rootfs(given, work_dir, "virtio-scsi", free_bytes=FREE)
    disk = block_image(prepared)
    assert (disk.fstype, disk.format, disk.driver, disk.suffix) == ("ext4", "raw", "virtio-scsi", "")
    assert prepared.passwd.startswith("root:x:0:0")
    assert [path.name for path in work_dir.iterdir()] == [disk.image.name]
    place = work_dir / "look"
    place.mkdir()
    subprocess.run(["mount", "-n", "-o", "loop,ro", disk.image, place], check=True)
    su = (place / "bin/su").stat()
    assert (su.st_mode & 0o7777, su.st_uid, su.st_gid, su.st_nlink) == (0o4750, 33, 34, 2)
    assert (place / "null").stat().st_rdev == os.makedev(1, 3)
    release_rootfs(work_dir)


def test_disk_of_an_image_lies_over_it(image: Path, work_dir: Path) -> None:
    before = image.read_bytes()
    prepared = prepare_rootfs(image, work_dir, "virtio-blk")
    disk = block_image(prepared)
    assert (disk.fstype, disk.format) == ("ext4", "qcow2")
    assert prepared.passwd.startswith("root:x:0:0")
    told = subprocess.run(["qemu-img", "info", disk.image], capture_output=True, text=True, check=True).stdout
    assert f"backing file: {image}" in told
    release_rootfs(work_dir)
    assert image.read_bytes() == before


def test_mounts_inside_a_directory_stay_out_of_its_disk(root: Path, work_dir: Path) -> None:
    mount("tmpfs", root / "tmp", "tmpfs")
    try:
        (root / "tmp/large").write_bytes(b"x" * (1 << 20))
        disk = block_image(prepare_rootfs(root, work_dir, "virtio-blk", free_bytes=FREE))
        listing = subprocess.run(
            ["debugfs", "-R", "ls -p /tmp", disk.image], capture_output=True, text=True, check=True
        ).stdout
    finally:
        unmount_path(root / "tmp")
        release_rootfs(work_dir)
    assert "/./" in listing
    assert "large" not in listing


def test_sandbox_directory_on_an_overlay_gets_memory_to_write_to(root: Path, run_dir: Path) -> None:
    for name in ("lower", "upper", "scratch", "over"):
        (run_dir / name).mkdir()
    words = f"lowerdir={run_dir}/lower,upperdir={run_dir}/upper,workdir={run_dir}/scratch"
    mount("overlay", run_dir / "over", "overlay", data=words)
    try:
        before = tree_hash(root)
        tree = shared_tree(prepare_rootfs(root, run_dir / "over/work", "shared"))
        scribble(tree)
        assert tree_hash(root) == before
        release_rootfs(run_dir / "over/work")
    finally:
        unmount_below(run_dir)


def archive_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A tar with such members."""
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "") -> tarfile.TarInfo:
    """One member of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, linkname, 0o755
    return info


@pytest.mark.parametrize(
    "members",
    [
        [(member("/../../escaped"), b"x")],
        [(member("../../../../../../escaped"), b"x")],
        [(member("out", tarfile.SYMTYPE, "{outside}"), b""), (member("out/escaped"), b"x")],
        [
            (member("out", tarfile.LNKTYPE, "../../../../../../{outside}/secret"), b""),
            (member("out"), b"changed"),
        ],
    ],
    ids=["absolute", "dots", "link-that-leads-out", "hard-link-that-leads-out"],
)
def test_hostile_tars_stay_inside(
    members: list[tuple[tarfile.TarInfo, bytes]], tmp_path: Path, work_dir: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    for info, _ in members:
        info.linkname = info.linkname.replace("{outside}", str(outside))
    archive = archive_of(tmp_path / "hostile.tar", *members, (member("etc", tarfile.DIRTYPE), b""))
    try:
        prepare_rootfs(archive, work_dir, "shared")
    except HostError as error:
        assert "could not be unpacked" in str(error)  # noqa: PT017 - either outcome is safe
    release_rootfs(work_dir)
    assert (outside / "secret").read_text() == "secret"
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert not list(work_dir.parent.glob("**/escaped"))
    assert not Path("/escaped").exists()


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([], "holds nothing"),
        (
            [(member("manifest.json"), b"[]"), (member("layer.tar"), b"x")],
            "is an image of layers, not a root filesystem: make one with `docker export`",
        ),
    ],
)
def test_tars_that_are_no_root_filesystem(
    members: list[tuple[tarfile.TarInfo, bytes]], complaint: str, tmp_path: Path, work_dir: Path
) -> None:
    archive = archive_of(
        tmp_path / "a.tar", *members, *([] if members else [(member(".", tarfile.DIRTYPE), b"")])
    )
    with pytest.raises(InvalidInput, match=complaint):
        prepare_rootfs(archive, work_dir, "shared")


def test_cut_tar_is_one_sentence(root: Path, tmp_path: Path, work_dir: Path) -> None:
    archive = tmp_path / "cut.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root, arcname=".")
    archive.write_bytes(archive.read_bytes()[:-60])
    with pytest.raises(HostError, match=r"cut\.tar\.gz could not be unpacked: \S"):
        prepare_rootfs(archive, work_dir, "shared")


@pytest.mark.parametrize("driver", ["shared", "virtio-scsi"])
def test_missing_root_filesystem_leaves_nothing(driver: str, tmp_path: Path, work_dir: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no root filesystem at"):
        prepare_rootfs(tmp_path / "absent", work_dir, driver)


def test_unknown_driver_is_refused_first(root: Path, work_dir: Path) -> None:
    with pytest.raises(InvalidInput, match="Unknown block device driver: nvme"):
        prepare_rootfs(root, work_dir, "nvme")


def test_damaged_image_is_one_sentence(tmp_path: Path, work_dir: Path) -> None:
    content = bytearray(1 << 20)
    content[0x438:0x43A] = b"\x53\xef"
    (tmp_path / "bad.img").write_bytes(content)
    with pytest.raises(HostError, match=r"ext4 image .* cannot be mounted"):
        prepare_rootfs(tmp_path / "bad.img", work_dir, "shared")
