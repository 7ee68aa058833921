"""An OCI document's resources as the values of cgroup v1 files. Pure.

Sources: opencontainers/runtime-spec config-linux.md; Documentation/admin-guide/cgroup-v1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.containers.stats import ReadFile

# By section and field: the controller and the file that take the number as it is, -1 for no limit.
# The period stands before the quota and memory before swap: `set_all` finds the order if that is wrong.
_NUMBERS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("cpu", "shares"): ("cpu", "cpu.shares"),
    ("cpu", "period"): ("cpu", "cpu.cfs_period_us"),
    ("cpu", "quota"): ("cpu", "cpu.cfs_quota_us"),
    ("cpu", "realtimePeriod"): ("cpu", "cpu.rt_period_us"),
    ("cpu", "realtimeRuntime"): ("cpu", "cpu.rt_runtime_us"),
    ("memory", "limit"): ("memory", "memory.limit_in_bytes"),
    ("memory", "swap"): ("memory", "memory.memsw.limit_in_bytes"),
    ("memory", "reservation"): ("memory", "memory.soft_limit_in_bytes"),
    ("memory", "kernel"): ("memory", "memory.kmem.limit_in_bytes"),
    ("memory", "kernelTCP"): ("memory", "memory.kmem.tcp.limit_in_bytes"),
    ("memory", "swappiness"): ("memory", "memory.swappiness"),
    ("memory", "disableOOMKiller"): ("memory", "memory.oom_control"),
    ("network", "classID"): ("net_cls", "net_cls.classid"),
}

_THROTTLES: Mapping[str, str] = {
    "throttleReadBpsDevice": "blkio.throttle.read_bps_device",
    "throttleWriteBpsDevice": "blkio.throttle.write_bps_device",
    "throttleReadIOPSDevice": "blkio.throttle.read_iops_device",
    "throttleWriteIOPSDevice": "blkio.throttle.write_iops_device",
}


def limits(resources: Mapping[str, Any], read: ReadFile) -> list[tuple[str, str, str]]:
    """Controller, file and value of each limit in `resources`, but for the cpuset's."""
    return [
        *_numbers(resources, read),
        *_pids(resources.get("pids") or {}),
        *_block_io(resources.get("blockIO") or {}, read),
        *_hugepages(resources),
        *_network(resources.get("network") or {}),
    ]


def _numbers(resources: Mapping[str, Any], read: ReadFile) -> Iterator[tuple[str, str, str]]:
    sections = {**resources, "memory": _with_swap(resources.get("memory") or {}, read)}
    for (section, field), (controller, file) in _NUMBERS.items():
        if value := (sections.get(section) or {}).get(field):
            yield controller, file, str(int(value))


def _with_swap(memory: Mapping[str, Any], read: ReadFile) -> Mapping[str, Any]:
    """Without a limit of memory there can be none of memory and swap, either."""
    counts_swap = read("memory", "memory.memsw.limit_in_bytes") is not None
    if counts_swap and memory.get("limit", 0) < 0 and not memory.get("swap"):
        return {**memory, "swap": -1}
    return memory


def _pids(pids: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if limit := pids.get("limit"):
        yield "pids", "pids.max", str(limit) if limit > 0 else "max"


def _block_io(block_io: Mapping[str, Any], read: ReadFile) -> Iterator[tuple[str, str, str]]:
    prefix = "blkio.bfq" if read("blkio", "blkio.weight") is None else "blkio"
    for field, file in (("weight", f"{prefix}.weight"), ("leafWeight", f"{prefix}.leaf_weight")):
        if weight := block_io.get(field):
            yield "blkio", file, str(weight)
    for device in block_io.get("weightDevice") or ():
        for field, file in (("weight", "weight_device"), ("leafWeight", "leaf_weight_device")):
            if weight := device.get(field):
                yield "blkio", f"{prefix}.{file}", f"{device['major']}:{device['minor']} {weight}"
    for field, file in _THROTTLES.items():
        for device in block_io.get(field) or ():
            yield "blkio", file, f"{device['major']}:{device['minor']} {device['rate']}"


def _hugepages(resources: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for limit in resources.get("hugepageLimits") or ():
        yield "hugetlb", f"hugetlb.{limit['pageSize']}.limit_in_bytes", str(limit["limit"])


def _network(network: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for interface in network.get("priorities") or ():
        yield "net_prio", "net_prio.ifpriomap", f"{interface['name']} {interface['priority']}"
