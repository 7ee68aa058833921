"""Volumes while they are in use: how full they are, and how large they are to be."""

from __future__ import annotations

import logging
import os

from agent.errors import InvalidRequest, KernelRefused
from agent.linux.blocking import run_blocking
from agent.linux.mountinfo import mounts_below
from agent.service.agent import Agent
from agent.service.requests import GetVolumeStats, NoArguments, ResizeVolume, UpdateEphemeralMounts
from agent.service.rules import Rules
from agent.storage.mount_options import MountOptions, without
from agent.storage.volumes import VolumeUsage, grow_volume, volume_usage

_log = logging.getLogger("agent.service.volumes")

_SHARED_DIRECTORY = "/run/kata-containers/shared/containers"


async def get_volume_stats(agent: Agent, request: GetVolumeStats, rules: Rules) -> VolumeUsage:
    """How full a volume is. Raises KernelRefused."""
    try:
        return await run_blocking(volume_usage, request.path)
    except OSError as error:
        raise KernelRefused.from_oserror("looking at the volume", error) from error


async def resize_volume(agent: Agent, request: ResizeVolume, rules: Rules) -> None:
    """Let a volume grow into its disk, which the host has enlarged.

    The 4.1 agent has this call and refuses it. Raises Unsupported, InvalidRequest, DeviceTimeout,
    KernelRefused, DeadlineExceeded.
    """
    await grow_volume(request.path, request.size_bytes, devices=agent.devices, reaper=agent.reaper)


async def update_ephemeral_mounts(agent: Agent, request: UpdateEphemeralMounts, rules: Rules) -> None:
    """Give volumes in memory new sizes, as when the guest has got more of it.

    All are looked at before one is changed. A storage without options stays as it is.
    Raises InvalidRequest, Unsupported, KernelRefused.
    """
    changes = []
    for storage in request.storages:
        if storage.driver != "ephemeral":
            raise InvalidRequest(
                f"storage at {storage.mount_point!r} is of driver {storage.driver!r}, not 'ephemeral'"
            )
        # The group has been given when it was mounted; the kernel knows no such option.
        if options := without(storage.options, "fsgid"):
            changes.append((storage.mount_point, MountOptions.parse(options)))
    await agent.guest.mounts.remount_tmpfs(changes)


async def remove_stale_virtiofs_share_mounts(agent: Agent, request: NoArguments, rules: Rules) -> None:
    """Look at every mount in the shared directory, so that virtiofsd lets go of what the host removed.

    What cannot be looked at is stale, and is only logged.
    """
    await run_blocking(_look_at_shares)


def _look_at_shares() -> None:
    for entry in mounts_below(_SHARED_DIRECTORY):
        try:
            os.stat(entry.mount_point)
        except OSError as error:
            _log.info("a stale mount", extra={"path": entry.mount_point, "error": error.strerror})
