"""The same run over every way of bringing a root filesystem in, both wires, both forms of the guest."""

from __future__ import annotations

import secrets

import pytest

from host.run_options import ImageForm, RootfsDriver, Wire
from tests.vm.cli.command_line import CommandLine, tree_hash

ROOT_FILESYSTEM = {
    RootfsDriver.SHARED: b"overlay|9p|kataShared",
    RootfsDriver.VIRTIO_BLK: b"/dev/vd",
    RootfsDriver.VIRTIO_MMIO: b"/dev/vd",
    RootfsDriver.VIRTIO_SCSI: b"/dev/sd",
}


@pytest.mark.parametrize("form", ImageForm)
@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("driver", RootfsDriver)
def test_a_run(pykata: CommandLine, driver: RootfsDriver, wire: Wire, form: ImageForm) -> None:
    before = tree_hash(pykata.rootfs)
    nonce = secrets.token_hex(8)
    script = f"grep ' / ' /proc/mounts; echo {nonce} >&2; echo written > /new-file; exit 37"
    options = ["--rm", "--rootfs-driver", driver, "--wire", wire, "--image-form", form]
    ended = pykata("run", *options, str(pykata.rootfs), "--", "sh", "-c", script)
    assert ended.status == 37, ended.errors
    assert nonce in ended.errors
    assert any(word in ended.output for word in ROOT_FILESYSTEM[driver].split(b"|"))
    assert tree_hash(pykata.rootfs) == before
    assert pykata.left([]) == []
