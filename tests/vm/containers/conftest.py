"""One guest for all tests of this folder that do not need another kind of guest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from host.client import Wire
from tests.scripted_host import ScriptedHost
from tests.vm.containers.guests import WIRES, Guest, guest_machine, sandbox_in
from tests.vm.machines import BootedVm

# So that a device that never comes is given up soon.
HOTPLUG_TIMEOUT = "agent.hotplug_timeout=1"


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def machine(count_boot: Callable[[], None]) -> AsyncIterator[BootedVm]:
    """A q35 guest on its ext4 image, cgroup v2, with a SCSI controller."""
    async with guest_machine("boxes", count_boot, scsi=True, kernel_params=(HOTPLUG_TIMEOUT,)) as machine:
        yield machine


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def sandbox(machine: BootedVm) -> AsyncIterator[Guest]:
    """The sandbox in that guest."""
    async with sandbox_in(machine) as guest:
        yield guest


@pytest_asyncio.fixture(loop_scope="package")
async def guest(sandbox: Guest) -> AsyncIterator[Guest]:
    """The sandbox, for a test that leaves the guest as it found it."""
    before = await sandbox.state()
    yield sandbox
    assert await sandbox.state() == before


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Each wire in turn."""
    chosen: Wire = request.param
    return chosen


@pytest.fixture
def host(guest: Guest, wire: Wire) -> ScriptedHost:
    """The host that speaks `wire`."""
    return guest.hosts[wire]
