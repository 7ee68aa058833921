"""Real disks for the privileged floor: images behind loop devices, taken away afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

# <linux/loop.h>
LOOP_CTL_ADD = 0x4C80
LOOP_CTL_REMOVE = 0x4C81

# mkfs.xfs of xfsprogs 6.1 makes nothing smaller than 300 MB; the image is sparse.
_SIZE_BYTES = {"ext4": 16 << 20, "xfs": 300 << 20}


def make_image(path: Path, fstype: str) -> Path:
    """An empty filesystem in a sparse file."""
    with path.open("wb") as file:
        file.truncate(_SIZE_BYTES[fstype])
    subprocess.run([f"mkfs.{fstype}", "-q", str(path)], check=True)
    return path


@contextlib.contextmanager
def loop_device(image: Path, *, read_only: bool = False) -> Iterator[str]:
    """The node of a loop device with `image` behind it."""
    command = ["losetup", "--find", "--show", *(["--read-only"] if read_only else []), str(image)]
    node = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield node
    finally:
        subprocess.run(["losetup", "--detach", node], check=True)


@contextlib.contextmanager
def new_disk_number() -> Iterator[int]:
    """A number for which there is no loop device yet; what `plug_disk` makes of it goes at the end."""
    number = next(
        n for n in range(1000 + os.getpid() % 1000, 3000) if not Path(f"/sys/block/loop{n}").exists()
    )
    try:
        yield number
    finally:
        with contextlib.suppress(OSError), Path("/dev/loop-control").open("rb") as control:
            fcntl.ioctl(control, LOOP_CTL_REMOVE, number)


def plug_disk(number: int) -> None:
    """Have the kernel make the device loop`number`: it sends a real `add` uevent."""
    with Path("/dev/loop-control").open("rb") as control:
        fcntl.ioctl(control, LOOP_CTL_ADD, number)
