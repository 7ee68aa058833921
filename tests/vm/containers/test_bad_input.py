"""Requests that cannot be carried out, on a real machine: one clear error, and nothing has changed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.errors import AgentError, DeviceTimeout, Generation, InvalidRequest, KernelRefused, status_for
from tests.scripted_host import ScriptedHost
from tests.vm.containers.guests import BOX, Guest, blank_disk

pytestmark = pytest.mark.asyncio(loop_scope="package")


def code_of(kind: type[AgentError], host: ScriptedHost) -> int:
    """The code that a host of this generation gets for such an error."""
    return status_for(kind("any"), Generation.KATA1 if host.is_old else Generation.KATA2).code


async def refused(host: ScriptedHost, **storage: Any) -> tuple[int, str]:
    """Ask for a container with one storage, which must fail; code and message."""
    storages = [host.messages.Storage(mount_point=f"/run/kata-containers/{BOX}-disk", **storage)]
    spec = host.spec("true", container_id=BOX)
    return await host.refused("CreateContainer", container_id=BOX, exec_id=BOX, OCI=spec, storages=storages)


async def test_a_disk_that_never_comes(host: ScriptedHost) -> None:
    started = asyncio.get_running_loop().time()
    code, message = await refused(host, driver="scsi", source="7:1", fstype="ext4")
    assert code == code_of(DeviceTimeout, host)
    assert "7:1" in message
    assert "within 1 s" in message
    assert asyncio.get_running_loop().time() - started < 15


@pytest.mark.parametrize(
    ("driver", "source"), [("blk", "02/zz"), ("blk", "1f/20"), ("scsi", "0:0:0"), ("blk-ccw", "0.4.0000")]
)
async def test_an_address_that_is_none(host: ScriptedHost, driver: str, source: str) -> None:
    code, message = await refused(host, driver=driver, source=source, fstype="ext4")
    assert code == code_of(InvalidRequest, host)
    assert source in message


async def test_an_unknown_driver(host: ScriptedHost) -> None:
    code, message = await refused(host, driver="floppy", source="a:", fstype="ext4")
    assert code == code_of(InvalidRequest, host)
    assert "floppy" in message


async def test_a_disk_without_a_file_system(guest: Guest, host: ScriptedHost) -> None:
    async with blank_disk(guest) as disk:
        code, message = await refused(host, driver=disk.driver, source=disk.source, fstype="xfs")
    assert code == code_of(KernelRefused, host)
    assert "/dev/vdb" in message
    assert "EINVAL" in message


async def test_ids_that_lead_elsewhere(host: ScriptedHost) -> None:
    for container_id in ("..", "../box", "a/b"):
        spec = host.spec("true", container_id=BOX)
        code, message = await host.refused(
            "CreateContainer", container_id=container_id, exec_id=BOX, OCI=spec
        )
        assert code == code_of(InvalidRequest, host)
        assert container_id in message
