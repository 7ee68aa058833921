"""Kernel modules that nothing else in the guest would load.

There is no udev here. The kernel itself loads file systems and network families on first use, by
/sbin/modprobe; a driver of a device it loads only for one who answers uevents. So the drivers that
a Kata host's devices need are loaded by name: those of the agent's channel before it listens, the
rest right after.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from agent.errors import AgentError
from agent.processes.reaper import Reaper
from agent.processes.spawn import run

_log = logging.getLogger("agent.pid1.drivers")

CHANNEL_DRIVERS = ("virtio_pci", "virtio_mmio", "vmw_vsock_virtio_transport")
DEVICE_DRIVERS = (
    *("virtio_rng", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_net"),
    *("9pnet_virtio", "virtiofs", "overlay"),
)
_MODPROBE = "/sbin/modprobe"
_TIMEOUT_S = 30.0  # a guest without hardware virtualisation takes half a second for all of them


async def load_drivers(reaper: Reaper, names: Iterable[str], *, sysfs_root: str = "/sys") -> None:
    """Load those of the modules `names` that the running kernel does not have yet.

    Never raises AgentError: a kernel with everything built in has no modules at all, and what is
    really missing shows where it is needed. It is logged.
    """
    wanted = [name for name in names if not Path(sysfs_root, "module", name.replace("-", "_")).exists()]
    if not wanted:
        return
    if not os.path.exists(_MODPROBE):
        _log.warning("no modprobe in this guest", extra={"modules": " ".join(wanted)})
        return
    try:
        # -a: all of them in one process; -b: as the kernel would, honouring blacklists.
        done = await run(reaper, [_MODPROBE, "-a", "-b", *wanted], timeout_s=_TIMEOUT_S)
    except AgentError as error:
        _log.warning("loading kernel modules failed", extra={"error": str(error)})
        return
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        _log.warning("modprobe ended with status %d", done.returncode, extra={"error": said})


def seed_random(source: str = "/dev/hwrng", pool: str = "/dev/urandom", size_bytes: int = 64) -> None:
    """Stir what the host's entropy device gives into the kernel's generator, once its driver is there.

    The kernel also takes from it by itself, but later (random(4)); a generator that is not seeded
    blocks the first container that asks. Raises OSError.
    """
    try:
        fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        data = os.read(fd, size_bytes)
    except OSError as error:
        if error.errno in {errno.ENODEV, errno.EAGAIN}:  # this host offers none, or none yet
            return
        raise
    finally:
        os.close(fd)
    Path(pool).write_bytes(data)
