"""Devices that a container asks for: find each in the guest, tell what its OCI spec must say of it.

What the types mean, and which texts the errors have: docs/storage-drivers.md, "Devices".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.devices.address import (
    CcwAddress,
    DeviceAddress,
    DeviceNode,
    MmioAddress,
    PciPath,
    PmemAddress,
    ScsiAddress,
)
from agent.errors import InvalidRequest, NotFound, Unsupported


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One device as the host asks for it; the fields are those of `Device` on the wire."""

    id: str
    type: str
    vm_path: str
    container_path: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceUpdate:
    """What the OCI spec must say of the device at `container_path`."""

    container_path: str
    node_path: str
    """The device's node in the guest."""
    kind: Literal["b", "c"]
    major: int
    minor: int
    final_path: str | None = None
    """The path the device is to have in the container instead, if it is to have another."""


class BlockDevices(Protocol):
    """The part of the guest's hardware needed here (agent.devices.wait.Devices)."""

    async def block_node(self, address: DeviceAddress) -> str:
        """The node of the disk at `address`, waiting for it if it is not there yet."""


async def resolve_devices(requests: Sequence[DeviceRequest], devices: BlockDevices) -> list[DeviceUpdate]:
    """Wait for each device in turn; the updates, in the order of `requests`.

    All requests are checked before the first wait. Nothing is changed, so there is nothing to undo.
    Raises InvalidRequest, Unsupported, NotFound (no such node), DeviceTimeout.
    """
    finders = [_checked_finder(request) for request in requests]
    return [
        _update(request, await find(request, devices))
        for request, find in zip(requests, finders, strict=True)
    ]


_Finder = Callable[[DeviceRequest, BlockDevices], Awaitable[str]]


async def _find_blk(request: DeviceRequest, devices: BlockDevices) -> str:
    if not request.id:  # hosts that know no PCI path predict the node
        return DeviceNode.parse(request.vm_path).path
    return await devices.block_node(PciPath.parse(request.id))


async def _find_blk_ccw(request: DeviceRequest, devices: BlockDevices) -> str:
    return await devices.block_node(CcwAddress.parse(request.id))


async def _find_mmioblk(request: DeviceRequest, devices: BlockDevices) -> str:
    return await devices.block_node(MmioAddress.parse(request.vm_path))


async def _find_scsi(request: DeviceRequest, devices: BlockDevices) -> str:
    return await devices.block_node(ScsiAddress.parse(request.id))


async def _find_nvdimm(request: DeviceRequest, devices: BlockDevices) -> str:
    return await devices.block_node(PmemAddress.parse(request.vm_path))


_FINDERS: dict[str, _Finder] = {
    "blk": _find_blk,
    "blk-ccw": _find_blk_ccw,
    "mmioblk": _find_mmioblk,
    "scsi": _find_scsi,
    "nvdimm": _find_nvdimm,
}

_VFIO_TYPES = ("vfio-pci", "vfio-pci-gk", "vfio-ap", "vfio-ap-cold")


def _checked_finder(request: DeviceRequest) -> _Finder:
    """The checks of the reference agents, in their order."""
    if not request.type:
        raise InvalidRequest(f"invalid type for device {request}")
    if not request.id and not request.vm_path:
        raise InvalidRequest(f"invalid ID and VM path for device {request}")
    if not request.container_path:
        raise InvalidRequest(f"invalid container path for device {request}")
    if request.type in _VFIO_TYPES:
        raise Unsupported(f"device type {request.type!r} is not supported yet")
    if (finder := _FINDERS.get(request.type)) is None:
        raise InvalidRequest(f"Unknown device type {request.type!r}; known: {', '.join(_FINDERS)}")
    return finder


def _update(request: DeviceRequest, node: str) -> DeviceUpdate:
    try:
        status = os.stat(node)
    except OSError as error:
        raise NotFound(f"device {request.container_path}: no node {node} in this guest") from error
    if stat.S_ISBLK(status.st_mode):
        kind: Literal["b", "c"] = "b"
    elif stat.S_ISCHR(status.st_mode):
        kind = "c"
    else:
        raise InvalidRequest(f"device {request.container_path}: {node} is no device node")
    return DeviceUpdate(
        request.container_path, node, kind, os.major(status.st_rdev), os.minor(status.st_rdev)
    )
