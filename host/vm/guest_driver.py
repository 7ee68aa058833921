"""Whether the guest's kernel has taken up its vsock device, as QEMU sees it.

Nobody may connect before that: vhost-device-vsock 0.3.0 accepts a connection as soon as QEMU has
told it the guest's memory, but while the queues are not set up yet the first look at them is an
error that ends its worker thread, and then it answers nobody any more (seen in one of ten boots;
vhu_vsock.rs, handle_event). With the kernel's own device an early connection merely fails.
"""

from __future__ import annotations

import asyncio

from qemu.qmp import ExecuteError, QMPClient

from host.errors import VmFailed

# QEMU has no event for a driver that comes up, so it is asked.
_POLL_S = 0.05
# Between QEMU's last message to the daemon, which has no answer, and the first connection. It costs
# nothing: the agent begins to listen a second or more after the driver is up.
_SETTLE_S = 0.2


async def wait_for_vsock_driver(qmp: QMPClient) -> None:
    """Return when the guest's vsock driver has set its device up.

    Asks with `x-query-virtio`, which QEMU has had since 7.2. Raises VmFailed without it; has no
    deadline of its own.
    """
    try:
        path = await _vsock_device(qmp)
        while not await _is_started(qmp, path):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(_POLL_S)
    except ExecuteError as error:
        raise VmFailed(f"QEMU cannot tell when the guest is up: {error}", "use QEMU 7.2 or later") from error
    await asyncio.sleep(_SETTLE_S)


async def _vsock_device(qmp: QMPClient) -> str:
    """The QOM path of the machine's vsock device."""
    devices = await qmp.execute("x-query-virtio")
    assert isinstance(devices, list)
    return next(str(device["path"]) for device in devices if "vsock" in device["name"])


async def _is_started(qmp: QMPClient, path: str) -> bool:
    status = await qmp.execute("x-query-virtio-status", {"path": path})
    assert isinstance(status, dict)
    return bool(status["started"])
