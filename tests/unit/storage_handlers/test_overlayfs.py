"""overlayfs on a fake guest: directories first, then the mount, and no marker in its data."""

from __future__ import annotations

import pytest

from agent.errors import AgentError, InvalidRequest, Unsupported
from agent.storage.handler import StorageRequest
from storage_handlers.overlayfs import Overlayfs
from tests.fakes.guest import FakeGuest

BUNDLE = "/run/kata-containers/c1"
POINT = f"{BUNDLE}/rootfs"
WRITABLE = "io.katacontainers.fs-opt.overlay-rw"
MAKE = "io.katacontainers.volume.overlayfs.create_directory="


def overlay(
    *options: str, fstype: str = "overlay", make: tuple[str, ...] = (), bundle: str = BUNDLE
) -> StorageRequest:
    driver_options = tuple(f"{MAKE}{path}" for path in make)
    return StorageRequest("overlayfs", "overlay", fstype, POINT, options, driver_options, bundle=bundle)


async def test_layers_that_the_host_names() -> None:
    guest = FakeGuest()
    options = ("ro", "lowerdir=/a:/b", "index=off", "io.katacontainers.fs-opt.layer=eA==")
    attached = await Overlayfs().attach(overlay(*options, bundle=""), guest)
    assert guest.log == [f"mount overlay {POINT} overlay RDONLY 'lowerdir=/a:/b,index=off'"]
    assert attached.mount_point == POINT


@pytest.mark.parametrize("fstype", ["overlay", "fuse3.kata-overlay", ""])
async def test_a_writable_layer_in_the_bundle(fstype: str) -> None:
    guest = FakeGuest()
    attached = await Overlayfs().attach(overlay(WRITABLE, "lowerdir=/a", fstype=fstype), guest)
    data = f"lowerdir=/a,upperdir={BUNDLE}/upper,workdir={BUNDLE}/work"
    taken = [
        f"mkdir {BUNDLE}/upper any None",
        f"mkdir {BUNDLE}/work any None",
        f"mount overlay {POINT} overlay 0 '{data}'",
    ]
    assert guest.log == taken
    guest.log.clear()
    await attached.release()
    assert guest.log == [f"release {step}" for step in reversed(taken)]


async def test_directories_that_the_host_wants_made() -> None:
    guest = FakeGuest()
    make = (f"{BUNDLE}/fs", f"{BUNDLE}/snapshot/work")
    options = (f"upperdir={make[0]}", f"workdir={make[1]}", "lowerdir=/a")
    await Overlayfs().attach(overlay(*options, make=make), guest)
    assert guest.log == [
        *(f"mkdir {path} any None" for path in make),
        f"mount overlay {POINT} overlay 0 '{','.join(options)}'",
    ]


@pytest.mark.parametrize("refuse", ["mkdir /run/kata-containers/c1/work", "mount", "mkdir /x"])
async def test_a_refused_step_leaves_nothing(refuse: str) -> None:
    guest = FakeGuest(refuse=[refuse])
    with pytest.raises(AgentError, match="refused"):
        await Overlayfs().attach(overlay(WRITABLE, "lowerdir=/a", make=("/x",)), guest)
    assert guest.held == []


@pytest.mark.parametrize(
    ("request_", "error", "text"),
    [
        (overlay(WRITABLE, bundle=""), InvalidRequest, "No container id in rw overlay"),
        (overlay("lowerdir=/a", fstype="ext4"), InvalidRequest, "'ext4' is not overlay"),
        (overlay("lowerdir=/a", "loop", make=("/x",)), InvalidRequest, "loop"),
        (
            StorageRequest("overlayfs", "overlay", "overlay", POINT, (), ("create_filesystem",)),
            Unsupported,
            "unknown driver option create_filesystem",
        ),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_happens(
    request_: StorageRequest, error: type[AgentError], text: str
) -> None:
    guest = FakeGuest()
    with pytest.raises(error, match=text):
        await Overlayfs().attach(request_, guest)
    assert guest.log == []
