"""Waiting for the guest's vsock driver: QEMU is asked until the device is started."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from qemu.qmp import ExecuteError, QMPClient
from qemu.qmp.message import Message
from qemu.qmp.models import ErrorResponse

from host.errors import VmFailed
from host.vm import guest_driver


class FakeQmp(QMPClient):
    """A QEMU whose guest takes its vsock device up at the third look."""

    def __init__(self, *, knows_virtio: bool = True) -> None:
        super().__init__("fake")
        self.knows_virtio = knows_virtio
        self.looks = 0

    async def execute(
        self, cmd: str, arguments: Mapping[str, object] | None = None, oob: bool = False
    ) -> object:
        del oob
        if not self.knows_virtio:
            response = {
                "error": {"class": "CommandNotFound", "desc": f"The command {cmd} has not been found"}
            }
            raise ExecuteError(ErrorResponse(response), Message(), Message(response))
        if cmd == "x-query-virtio":
            return [{"name": "virtio-rng", "path": "/rng"}, {"name": "vhost-vsock", "path": "/vsock"}]
        assert (cmd, arguments) == ("x-query-virtio-status", {"path": "/vsock"})
        self.looks += 1
        return {"started": self.looks == 3}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_driver, "_POLL_S", 0)
    monkeypatch.setattr(guest_driver, "_SETTLE_S", 0)


async def test_asks_until_the_device_is_started() -> None:
    qmp = FakeQmp()
    await guest_driver.wait_for_vsock_driver(qmp)
    assert qmp.looks == 3


async def test_a_qemu_that_cannot_tell() -> None:
    with pytest.raises(VmFailed, match=r"x-query-virtio has not been found: use QEMU 7\.2 or later"):
        await guest_driver.wait_for_vsock_driver(FakeQmp(knows_virtio=False))
