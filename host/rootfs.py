"""The user's root filesystem made ready for a guest. It is never written.

| given | shared | on a disk |
| --- | --- | --- |
| a directory | an overlay: the directory below, what the container writes above | an ext4 image of it |
| a tar | unpacked | unpacked, then an ext4 image |
| an image | an overlay over the image, mounted read-only | a qcow2 overlay on the image |

All that is made lies in one working directory, which goes away with the sandbox.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from host import unpack_tar
from host.bind_mounts import bind_mount, unmount_below, unmount_path
from host.container_config import BlockRootfs, SharedRootfs
from host.errors import HostError, InvalidInput
from host.ext4_image import DEFAULT_FREE_BYTES, make_ext4_image
from host.linux_files import read_text_in_root
from host.linux_mount import MountFlag, mount, mounts_below, read_mountinfo
from host.rootfs_source import RootfsKind, RootfsSource, identify_rootfs
from host.short_programs import run_program
from host.storages import storage_driver
from host.vm.disks import make_overlay
from host.vm.programs import find_program

SHARED = "shared"

# How a filesystem is mounted without writing to its image: the journal is not replayed.
_READ_ONLY_OPTIONS = {"ext4": "ro,noload", "xfs": "ro,norecovery,nouuid"}


@dataclass(frozen=True, slots=True)
class PreparedRootfs:
    """A root filesystem a container can have, with the texts of its account files.

    `work_dir` holds what was made for it; `release_rootfs` removes that.
    """

    rootfs: SharedRootfs | BlockRootfs
    passwd: str
    group: str
    work_dir: Path


def prepare_rootfs(
    path: str | Path, work_dir: Path, driver: str, *, free_bytes: int = DEFAULT_FREE_BYTES
) -> PreparedRootfs:
    """Make the root filesystem at `path` ready to reach a guest by `driver`.

    `driver` is "shared" or a block driver of `host.storages`; `work_dir` must not exist yet;
    `free_bytes` is what an image made here has left for the container. Blocks for seconds: a loop
    calls it in a thread. Raises HostError; then nothing is left of `work_dir`.
    """
    source = identify_rootfs(path)
    if driver != SHARED:
        storage_driver(driver)
    work_dir = work_dir.absolute()
    work_dir.mkdir(mode=0o700, parents=True)
    with contextlib.ExitStack() as undo:
        undo.callback(release_rootfs, work_dir)
        if driver == SHARED:
            prepared = _prepare_shared(source, work_dir)
        else:
            prepared = _prepare_block(source, work_dir, driver, free_bytes)
        undo.pop_all()
    return prepared


def release_rootfs(work_dir: Path) -> None:
    """Unmount and remove what `prepare_rootfs` made in `work_dir`. Safe to call twice.

    Needs nothing but the path. Raises HostError if a mount stays; then no file is removed.
    """
    unmount_below(work_dir)
    left = mounts_below(Path(os.path.realpath(work_dir)), read_mountinfo())
    if left:
        raise HostError(f"{left[0].mount_point} is still mounted", f"unmount it, then remove {work_dir}")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(work_dir)


def _prepare_shared(source: RootfsSource, work_dir: Path) -> PreparedRootfs:
    if source.kind is RootfsKind.TAR:
        # The copy is the sandbox's own: nothing needs to lie over it.
        root = _unpacked(source, work_dir)
    elif source.kind is RootfsKind.IMAGE:
        lower = work_dir / "image"
        _mount_image(source, lower)
        root = _overlay(lower, work_dir)
    else:
        root = _overlay(source.path, work_dir)
    return _prepared(SharedRootfs(root), root, work_dir)


def _prepare_block(source: RootfsSource, work_dir: Path, driver: str, free_bytes: int) -> PreparedRootfs:
    if source.kind is RootfsKind.IMAGE:
        disk = work_dir / "rootfs.qcow2"
        make_overlay(source.path, disk)
        with _image_mounted(source, work_dir / "image") as root:
            rootfs = BlockRootfs(disk, source.fstype, driver, format="qcow2")
            return _prepared(rootfs, root, work_dir)
    disk = work_dir / "rootfs.ext4"
    tree = _unpacked(source, work_dir) if source.kind is RootfsKind.TAR else source.path
    with _without_mounts_below(tree, work_dir / "tree") as plain:
        make_ext4_image(plain, disk, free_bytes=free_bytes)
    prepared = _prepared(BlockRootfs(disk, "ext4", driver), tree, work_dir)
    if source.kind is RootfsKind.TAR:
        shutil.rmtree(tree)
    return prepared


def _prepared(rootfs: SharedRootfs | BlockRootfs, root: Path, work_dir: Path) -> PreparedRootfs:
    try:
        passwd, group = (read_text_in_root(root, f"/etc/{name}") for name in ("passwd", "group"))
    except OSError as error:
        raise HostError(f"the account files of {root} cannot be read: {error}") from error
    return PreparedRootfs(rootfs, passwd, group, work_dir)


def _unpacked(source: RootfsSource, work_dir: Path) -> Path:
    tree = work_dir / "unpacked"
    tree.mkdir(mode=0o755)
    program: list[str | Path] = [sys.executable, "-I", unpack_tar.__file__, tree]
    with source.path.open("rb") as archive:
        run_program(f"{source.path} could not be unpacked", program, stdin=archive)
    names = {entry.name for entry in tree.iterdir()}
    if not names:
        raise InvalidInput(f"{source.path} holds nothing")
    if "manifest.json" in names and not names & {"bin", "usr", "etc"}:
        raise InvalidInput(
            f"{source.path} is an image of layers, not a root filesystem",
            "make one with `docker export` of a container, not `docker save`",
        )
    return tree


def _overlay(lower: Path, work_dir: Path) -> Path:
    """An overlay over `lower`, whose content stays as it is. Returns where it is mounted."""
    merged = work_dir / "merged"
    merged.mkdir()
    writable = work_dir / "writable"
    writable.mkdir()
    try:
        _mount_overlay(lower, writable, merged)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise HostError(f"no overlay over {lower} could be mounted: {error.strerror}") from error
        _overlay_in_memory(lower, writable, merged)
    return merged


def _overlay_in_memory(lower: Path, writable: Path, merged: Path) -> None:
    """The same, with what is written on a tmpfs: an overlay (as in a container) cannot carry another's."""
    try:
        mount("tmpfs", writable, "tmpfs", MountFlag.NODEV, "mode=700")
        _mount_overlay(lower, writable, merged)
    except OSError as error:
        raise HostError(
            f"no overlay over {lower} could be mounted: {error.strerror}",
            f"put the run directory on ext4, xfs or tmpfs, not as now on that of {writable.parent}",
        ) from error


def _mount_overlay(lower: Path, writable: Path, merged: Path) -> None:
    upper, scratch = writable / "upper", writable / "work"
    for directory in (upper, scratch):
        directory.mkdir(exist_ok=True)
    # The merged root has the owner, mode and time of the upper directory. Its attributes are not copied:
    # `lower` may be an overlay's layer itself, whose marks (trusted.overlay.*) mean something to the kernel.
    root = lower.stat()
    os.chown(upper, root.st_uid, root.st_gid)
    upper.chmod(stat.S_IMODE(root.st_mode))
    os.utime(upper, ns=(root.st_atime_ns, root.st_mtime_ns))
    # By descriptors: a path may hold the characters that separate overlay's options (`:` and `,`).
    with contextlib.ExitStack() as descriptors:
        words = []
        for option, directory in (("lowerdir", lower), ("upperdir", upper), ("workdir", scratch)):
            descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            descriptors.callback(os.close, descriptor)
            words.append(f"{option}=/proc/self/fd/{descriptor}")
        mount("overlay", merged, "overlay", data=",".join(words))


def _mount_image(source: RootfsSource, mount_point: Path) -> None:
    """Mount an image read-only on a loop device, which goes away with the mount (mount(8))."""
    mount_point.mkdir()
    options = f"loop,{_READ_ONLY_OPTIONS[source.fstype]}"
    command: list[str | Path] = [find_program("mount"), "-n", "-t", source.fstype, "-o", options]
    command += [source.path, mount_point]
    run_program(f"the {source.fstype} image {source.path} cannot be mounted", command)


@contextlib.contextmanager
def _image_mounted(source: RootfsSource, mount_point: Path) -> Iterator[Path]:
    _mount_image(source, mount_point)
    try:
        yield mount_point
    finally:
        unmount_path(mount_point)


@contextlib.contextmanager
def _without_mounts_below(tree: Path, place: Path) -> Iterator[Path]:
    """`tree` without what is mounted inside it: a plain bind leaves that behind."""
    if not mounts_below(tree, read_mountinfo(), itself=False):
        yield tree
        return
    bind = bind_mount(tree, place)
    try:
        yield place
    finally:
        bind.release()
