"""What the host's monitoring reads of the agent and of its guest.

The names, units and items are those of the 4.1 agent (kata-containers src/agent/src/metrics.rs and
docs/design/kata-2-0-metrics.md), so that the same dashboards serve. Where that agent writes 0 for an
item that the kernel does not have, there is no sample here.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict

from agent.linux import procfs
from agent.linux.blocking import run_blocking
from agent.linux.mountinfo import read_mountinfo
from agent.service.agent import Agent
from agent.service.prometheus import Family, Sample, exposition, items, nested_items, number
from agent.service.requests import NoArguments
from agent.service.rules import Rules

_log = logging.getLogger("agent.service.metrics")

# Those on disks, or on top of them. One of a kind that the host serves could keep the caller waiting.
_FILESYSTEMS = frozenset({"ext4", "xfs", "btrfs", "vfat", "overlay"})


async def get_metrics(agent: Agent, request: NoArguments, rules: Rules) -> str:
    """All metrics, as text for Prometheus. A source that cannot be read is left out."""
    agent.scrape_count += 1
    scrapes = number(
        "kata_agent_scrape_count", "How often these metrics were read", agent.scrape_count, "counter"
    )
    return await run_blocking(lambda: exposition([scrapes, *collect(agent.guest_paths.procfs)]))


def collect(root: str) -> Iterator[Family]:
    """What the procfs at `root` tells of this process and of the guest. Blocks."""
    for source in _SOURCES:
        try:
            yield from source(root)
        except (OSError, ValueError, IndexError) as error:
            _log.info("metrics are left out", extra={"source": source.__name__, "error": str(error)})


def _agent_process(root: str) -> Iterable[Family]:
    times = procfs.process_times(root)
    ticks = {name: getattr(times, name) for name in ("utime", "stime", "cutime", "cstime")}
    return (
        number("kata_agent_threads", "Threads of the agent", times.threads),
        number("kata_agent_total_time", "CPU time of the agent in seconds", times.seconds),
        number("kata_agent_total_vm", "Virtual memory of the agent in bytes", times.virtual_bytes),
        number("kata_agent_total_rss", "Resident memory of the agent in bytes", times.resident_bytes),
        items("kata_agent_proc_stat", "Times of the agent and its children in clock ticks", ticks),
    )


def _agent_io(root: str) -> Iterable[Family]:
    return [items("kata_agent_io_stat", "Input and output of the agent", procfs.process_io(root))]


def _agent_memory(root: str) -> Iterable[Family]:
    memory = procfs.process_memory(root)
    return [items("kata_agent_proc_status", "Memory of the agent in KiB, and its switches", memory)]


def _load(root: str) -> Iterable[Family]:
    load = procfs.load_average(root)
    means = {name: value for name, value in asdict(load).items() if name.startswith("load")}
    tasks = {"cur": load.running_tasks, "max": load.tasks}
    return (
        items("kata_guest_load", "Load of the guest", means),
        items("kata_guest_tasks", "Tasks that run in the guest, and that exist", tasks),
    )


def _cpu_times(root: str) -> Iterable[Family]:
    times = procfs.cpu_times_ms(root)
    return [nested_items("kata_guest_cpu_time", "CPU time of the guest in milliseconds", times, label="cpu")]


def _virtual_memory(root: str) -> Iterable[Family]:
    return [items("kata_guest_vm_stat", "Virtual memory of the guest", procfs.virtual_memory(root))]


def _memory(root: str) -> Iterable[Family]:
    return [items("kata_guest_meminfo", "Memory of the guest in bytes", procfs.memory(root))]


def _network_devices(root: str) -> Iterable[Family]:
    devices = procfs.network_devices(root)
    return [nested_items("kata_guest_netdev_stat", "Network of the guest", devices, label="interface")]


def _disks(root: str) -> Iterable[Family]:
    return [nested_items("kata_guest_diskstat", "Disks of the guest", procfs.disks(root), label="disk")]


def _filesystems(root: str) -> Iterable[Family]:
    """Each filesystem once, wherever else it is mounted; those that nobody can fill are left out."""
    found: dict[tuple[int, int], tuple[dict[str, str], os.statvfs_result]] = {}
    for entry in read_mountinfo(f"{root}/self/mountinfo"):
        if entry.fstype in _FILESYSTEMS and not entry.read_only and entry.device not in found:
            labels = {"mount": entry.mount_point, "device": entry.source}
            with contextlib.suppress(OSError):  # it may be out of this namespace's reach
                found[entry.device] = labels, os.statvfs(entry.mount_point)
    return (
        _filesystem_family(
            "kata_guest_filesystem_bytes",
            "Bytes of the guest's filesystems",
            (
                (labels, status.f_blocks * status.f_frsize, status.f_bfree * status.f_frsize)
                for labels, status in found.values()
            ),
        ),
        _filesystem_family(
            "kata_guest_filesystem_inodes",
            "Inodes of the guest's filesystems",
            ((labels, status.f_files, status.f_ffree) for labels, status in found.values()),
        ),
    )


def _filesystem_family(
    name: str, text: str, filesystems: Iterable[tuple[dict[str, str], int, int]]
) -> Family:
    return Family(
        name,
        text,
        tuple(
            Sample(value, {**labels, "item": item})
            for labels, total, free in filesystems
            for item, value in (("total", total), ("used", total - free), ("available", free))
        ),
    )


_SOURCES: tuple[Callable[[str], Iterable[Family]], ...] = (
    _agent_process,
    _agent_io,
    _agent_memory,
    _load,
    _cpu_times,
    _virtual_memory,
    _memory,
    _network_devices,
    _disks,
    _filesystems,
)
