"""Figures that cannot make a machine are refused when the configuration is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host.errors import InvalidInput, ToolMissing
from host.network import PublishedPort
from host.vm.config import GuestImage, VmConfig


def config(**changes: Any) -> VmConfig:
    figures: dict[str, Any] = {
        "name": "vm1",
        "run_dir": Path("/run/vm1"),
        "image": GuestImage(Path("/images")),
        "shared_fs": "none",
    }
    return VmConfig(**figures | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../vm"}, "no name for a virtual machine"),
        ({"run_dir": Path("/run/" + "x" * 90)}, "112 bytes: the kernel allows 107"),
        ({"memory_mib": 64}, "64 MiB of memory is too little"),
        ({"cpus": 0}, "0 is no number of processors"),
        ({"shared_fs": "9p"}, "name both, or neither"),
        ({"share_dir": Path("/share")}, "name both, or neither"),
        ({"published_ports": (PublishedPort(80, 80),)}, "cannot publish ports"),
        ({"machine": "microvm", "scsi": True}, "no bus for hot-plugged SCSI"),
    ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        config(**changes)


def test_cold_disks_are_numbered_after_the_images_own() -> None:
    assert config().first_cold_disk_index == 1
    assert config(image=GuestImage(Path("/images"), "initrd")).first_cold_disk_index == 0


def test_image_check_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").touch()
    with pytest.raises(
        ToolMissing, match=r"lacks initramfs\.cpio\.zst, rootfs\.ext4: build it with `make image`"
    ):
        GuestImage(tmp_path, "image").check()
    (tmp_path / "initrd.cpio.zst").touch()
    GuestImage(tmp_path, "initrd").check()


def test_image_prefers_the_unpacked_kernel(tmp_path: Path) -> None:
    image = GuestImage(tmp_path)
    assert image.kernel.name == "vmlinuz"
    (tmp_path / "vmlinux").touch()
    assert image.kernel.name == "vmlinux"
