"""The guest itself: what it is, its clock, its random numbers."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from agent.errors import CodedError, InvalidRequest, KernelRefused, StatusCode
from agent.linux.blocking import run_blocking
from agent.linux.clock import set_wall_clock
from agent.linux.entropy import mix, reseed
from agent.service.agent import Agent
from agent.service.health_calls import agent_version
from agent.service.requests import GetGuestDetails, GuestDetails, ReseedRandomDevice, SetGuestDateTime
from agent.service.rules import Rules

_log = logging.getLogger("agent.service.guest")

# The device types that CreateContainer knows; the order of the 1.x agent is random.
_DEVICE_HANDLERS = ("blk", "blk-ccw", "mmioblk", "nvdimm", "scsi")

_SECCOMP_ACTIONS = "proc/sys/kernel/seccomp/actions_avail"  # seccomp(2): there if filters are
_BLOCK_SIZE = "sys/devices/system/memory/block_size_bytes"  # Documentation/admin-guide/mm/memory-hotplug.rst
_PROBE = "sys/devices/system/memory/probe"
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{1,16}")
_ACPI_HOTPLUG = "sys/firmware/acpi/hotplug/memory/enabled"


async def get_guest_details(agent: Agent, request: GetGuestDetails, rules: Rules) -> GuestDetails:
    """What this guest and its agent can do. Raises KernelRefused if sysfs cannot be read."""
    drivers = await run_blocking(agent.registry.drivers)
    version = await run_blocking(agent_version)
    try:
        return GuestDetails(
            agent_version=version,
            is_init=agent.is_init,
            device_handlers=_DEVICE_HANDLERS if rules.names_device_handlers else (),
            storage_handlers=tuple(drivers),
            supports_seccomp=Path("/", _SECCOMP_ACTIONS).exists(),
            extra_features=("seccomp",) if Path("/", _SECCOMP_ACTIONS).exists() else (),
            memory_block_size_bytes=memory_block_size() if request.memory_block_size else 0,
            memory_probe=request.memory_probe
            and has_memory_probe(unless_acpi=rules.acpi_spares_memory_probe),
        )
    except OSError as error:
        raise KernelRefused.from_oserror("reading sysfs", error) from error


async def reseed_random_device(agent: Agent, request: ReseedRandomDevice, rules: Rules) -> None:
    """Mix the host's bytes into the random number generator, and count them as entropy.

    A 1.x host is content if the kernel only mixes them in. Raises InvalidRequest, KernelRefused.
    """
    if not request.data:
        raise InvalidRequest("missing entropy data")
    try:
        await run_blocking(_mix_at_least if rules.reseed_is_best_effort else reseed, request.data)
    except OSError as error:
        raise KernelRefused.from_oserror("reseeding", error) from error


async def set_guest_date_time(agent: Agent, request: SetGuestDateTime, rules: Rules) -> None:
    """Set the wall clock; all deadlines here are on the monotonic one. Raises KernelRefused."""
    try:
        set_wall_clock(request.seconds, request.microseconds)
    except OSError as error:
        raise KernelRefused.from_oserror("Could not set guest time: clock_settime", error) from error


def _mix_at_least(data: bytes) -> None:
    try:
        reseed(data)
    except OSError as error:
        _log.warning("the host's bytes do not count as entropy", extra={"error": str(error)})
        mix(data)


def memory_block_size(root: Path = Path("/")) -> int:
    """The size in bytes of the pieces in which memory is plugged; 0 if the kernel has none.

    Raises OSError; CodedError (INTERNAL on both wires) for a file that holds no hexadecimal number.
    """
    try:
        text = (root / _BLOCK_SIZE).read_text().strip()
    except FileNotFoundError:
        return 0
    if not _HEXADECIMAL.fullmatch(text):
        raise CodedError(StatusCode.INTERNAL, f'Invalid block size "{text}"')
    return int(text, 16)


def has_memory_probe(root: Path = Path("/"), *, unless_acpi: bool) -> bool:
    """Whether plugged memory can be announced by hand; `unless_acpi`: and ACPI does not do it."""
    acpi = root / _ACPI_HOTPLUG
    if unless_acpi and acpi.exists() and acpi.read_text().strip() == "1":
        return False
    return (root / _PROBE).exists()
