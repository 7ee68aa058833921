"""A running container's figures, read from the kernel. Blocks; called through `run_blocking`."""

from __future__ import annotations

import os
from pathlib import Path

from agent.containers import stats_v1, stats_v2
from agent.containers.cgroup_files import CgroupFiles
from agent.containers.stats import CgroupStats, ContainerStats, NetworkStats, network_stats


def read_stats(files: CgroupFiles, pid: int | None) -> ContainerStats:
    """The figures of the container with these cgroup files, whose first process is `pid` (None: gone).

    What the guest does not count, or a container that is going away no longer has, is left out.
    """
    return ContainerStats(read_cgroup(files), read_network(pid) if pid is not None else ())


def read_cgroup(files: CgroupFiles) -> CgroupStats:
    """What the cgroup tells."""
    sizes = files.page_sizes()
    if files.is_unified:
        return stats_v2.cgroup_stats(files.read, page_sizes=sizes)
    return stats_v1.cgroup_stats(files.read, ticks_per_s=os.sysconf("SC_CLK_TCK"), page_sizes=sizes)


def read_network(pid: int) -> tuple[NetworkStats, ...]:
    """The interfaces of a process's network namespace; none once it has exited."""
    try:
        return network_stats(Path(f"/proc/{pid}/net/dev").read_text())
    except OSError:  # ENOENT; EINVAL of a zombie, which has left its namespace
        return ()
