"""The files that a hypervisor is given."""

from __future__ import annotations

import shutil
from pathlib import Path

from image_builder.commands import run
from image_builder.cpio import write_compressed

LABEL = "kata-root"
_MIB = 1 << 20
# ext4's own tables and the slack of half-filled blocks, over the sum of the files' sizes.
_HEADROOM = 1.08
_SPARE_BYTES = 8 * _MIB
_JOURNAL_MIB = 4  # mke2fs(8) asks for 1024 blocks of the file system's 4 KiB
# A guest boots far more often than its image is built, but zstd decompresses at one speed
# whatever the level: this one takes seconds and comes within 3 % of the best.
_COMPRESSION_LEVEL = 12


def write_ext4(root: Path, target: Path) -> None:
    """Write the tree below `root` as an ext4 file system, to be mounted read-only.

    It has the smallest journal there is, because Kata's runtimes mount their image with `data=ordered`,
    which ext4 refuses without one. Its UUID is fixed: the same tree gives the same identity.
    Raises ImageBuildError.
    """
    files = [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]
    used = sum((path.lstat().st_size + 4095) // 4096 * 4096 for path in files)
    size = int(used * _HEADROOM) + _SPARE_BYTES + _JOURNAL_MIB * _MIB
    target.unlink(missing_ok=True)
    with target.open("wb") as file:
        file.truncate((size + _MIB - 1) // _MIB * _MIB)
    run(
        [
            *("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096"),
            *("-O", "has_journal", "-J", f"size={_JOURNAL_MIB}", "-m", "0", "-L", LABEL),
            *("-U", "6b617461-726f-4f74-8000-707974686f6e", "-E", "root_owner=0:0"),
            *("-d", str(root), str(target)),
        ]
    )


def write_initrd(root: Path, target: Path) -> None:
    """Write the whole root as the archive that the kernel runs from memory (form `initrd`)."""
    write_compressed(root, target, level=_COMPRESSION_LEVEL)


def write_initramfs(
    recipe_directory: Path,
    target: Path,
    *,
    busybox: Path,
    modules: Path,
    names: tuple[str, ...],
    scratch: Path,
) -> None:
    """Write the first stage of the form `image`: busybox, modules, and the script that mounts the root.

    `modules` is the indexed folder of one kernel release; `scratch` an empty directory to build in.
    """
    binaries = scratch / "bin"
    binaries.mkdir(parents=True)
    shutil.copy(busybox, binaries / "busybox")
    for name in (
        "cat",
        "echo",
        "findfs",
        "ls",
        "modprobe",
        "mount",
        "poweroff",
        "sh",
        "sleep",
        "switch_root",
        "sync",
        "tr",
        "umount",
    ):
        (binaries / name).symlink_to("busybox")
    (scratch / "sbin").symlink_to("bin")
    (scratch / "etc").mkdir()
    (scratch / "etc/modules").write_text("".join(f"{name}\n" for name in names))
    shutil.copytree(modules, scratch / "lib/modules" / modules.name)
    for name in ("dev", "newroot", "proc", "sys"):
        (scratch / name).mkdir()
    shutil.copy(recipe_directory / "initramfs/init", scratch / "init")
    write_compressed(scratch, target, level=_COMPRESSION_LEVEL)
