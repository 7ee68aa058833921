"""What every call has at hand: the sandbox, and the ways into the guest's kernel.

Built once by the supervisor. It holds no logic of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agent.config import AgentConfig
from agent.containers.container import Container, RuntimePaths
from agent.containers.oom import OomEvents
from agent.devices.wait import Devices
from agent.processes.reaper import Reaper
from agent.sandbox.sandbox import Sandbox
from agent.service.policy import Policy
from agent.storage.copied_files import CopiedFiles
from agent.storage.filesystems import Filesystems
from agent.storage.guest import RunningGuest
from agent.storage.registry import HandlerRegistry

_log = logging.getLogger("agent.service")


@dataclass(frozen=True, slots=True)
class GuestPaths:
    """Where the agent keeps what a sandbox needs; tests move them."""

    namespaces: str = "/run/sandbox-ns"
    resolv_conf: str = "/run/kata-containers/sandbox/resolv.conf"
    system_resolv_conf: str = "/etc/resolv.conf"
    procfs: str = "/proc"
    sysfs: str = "/sys"


class ConnectionSource(Protocol):
    """Where the host's connections for streams wait (agent.transports.passfd)."""

    async def take(self, port: int) -> socket.socket | None:
        """The connection whose peer has `port`; the caller owns it. None for 0, or if it does not come."""


class Agent:
    """The agent's state and its tools. `shutdown` is set once the agent is to end."""

    def __init__(
        self,
        config: AgentConfig,
        reaper: Reaper,
        *,
        runtime_paths: RuntimePaths | None = None,
        guest_paths: GuestPaths | None = None,
    ) -> None:
        self.config = config
        self.reaper = reaper
        self.runtime_paths = runtime_paths or RuntimePaths()
        self.guest_paths = guest_paths or GuestPaths()
        self.devices = Devices(sysfs_root=self.guest_paths.sysfs, hotplug_timeout_s=config.hotplug_timeout_s)
        self.guest = RunningGuest(self.devices, Filesystems(reaper))
        self.registry = HandlerRegistry()
        self.copied_files = CopiedFiles()
        self.oom_events = OomEvents()
        self.policy = Policy()
        self.passed_connections: ConnectionSource | None = None
        self.sandbox: Sandbox[Container] = Sandbox()
        self.shutdown = asyncio.Event()
        self.scrape_count = 0  # of metrics
        self._behind: set[asyncio.Task[None]] = set()

    def go_on_behind(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Let `work` go on after its request has been answered. Its failure is logged under `name`."""
        task = asyncio.create_task(work, name=name)
        self._behind.add(task)
        task.add_done_callback(self._settle)

    def _settle(self, task: asyncio.Task[None]) -> None:
        self._behind.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("%s failed", task.get_name(), extra={"error": str(error)})

    @property
    def is_init(self) -> bool:
        """Whether the agent is the machine's first process."""
        return os.getpid() == 1

    def root_is_initramfs(self) -> bool:
        """Whether `/` is the kernel's own rootfs, from which pivot_root(2) is impossible.

        A few lines of procfs, read on the loop.
        """
        fstype = ""
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, mount_point, fstype_here, *_ = line.split(" ")
            if mount_point == "/":
                fstype = fstype_here  # the last entry is the one on top
        return fstype == "rootfs"
