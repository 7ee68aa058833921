"""An OCI document's resources as the values of cgroup v2 files. Pure.

The document speaks of cgroup v1; how each number is carried over follows opencontainers/cgroups
(ConvertCPUSharesToCgroupV2Value and its neighbours) and kata-containers src/agent/rustjail.
Source of the files: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.containers.stats import NO_LIMIT, ReadFile, number
from agent.errors import InvalidRequest, Unsupported

# The document's fields that this version of cgroups has no place for; a wish for no limit is granted.
_V1_ONLY = (
    ("cpu", "realtimePeriod"),
    ("cpu", "realtimeRuntime"),
    ("memory", "kernel"),
    ("memory", "kernelTCP"),
    ("memory", "swappiness"),
    ("memory", "disableOOMKiller"),
    ("network", "classID"),
    ("network", "priorities"),
)

_THROTTLES: Mapping[str, str] = {
    "throttleReadBpsDevice": "rbps",
    "throttleWriteBpsDevice": "wbps",
    "throttleReadIOPSDevice": "riops",
    "throttleWriteIOPSDevice": "wiops",
}


def limits(resources: Mapping[str, Any], read: ReadFile) -> list[tuple[str, str, str]]:
    """Controller, file and value of each limit in `resources`, but for the cpuset's.

    Raises Unsupported for what only v1 has, InvalidRequest.
    """
    for section, field in _V1_ONLY:
        value = (resources.get(section) or {}).get(field)
        if value and not (isinstance(value, int) and value < 0):
            raise Unsupported(f"{section}.{field} cannot be set: cgroup v2, which this guest has, lacks it")
    return [
        *_cpu(resources.get("cpu") or {}, read),
        *_memory(resources.get("memory") or {}, read),
        *_pids(resources.get("pids") or {}),
        *_io(resources.get("blockIO") or {}, read),
        *_hugepages(resources),
    ]


def _cpu(cpu: Mapping[str, Any], read: ReadFile) -> Iterator[tuple[str, str, str]]:
    if shares := cpu.get("shares"):
        # From 2 to 262144 shares, to 1 to 10000 of weight.
        yield "cpu", "cpu.weight", str(1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142)
    quota, period = cpu.get("quota", 0), cpu.get("period", 0)
    if period:  # which the file takes only behind a quota
        kept = (read("cpu", "cpu.max") or "max").split()[0]
        yield "cpu", "cpu.max", f"{_or_max(quota) if quota else kept} {period}"
    elif quota:  # alone it leaves the period as it is
        yield "cpu", "cpu.max", _or_max(quota)


def _memory(memory: Mapping[str, Any], read: ReadFile) -> Iterator[tuple[str, str, str]]:
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if limit:
        yield "memory", "memory.max", _or_max(limit)
    if swap < 0 or (not swap and limit < 0):
        if swap < 0 or read("memory", "memory.swap.max") is not None:
            yield "memory", "memory.swap.max", "max"
    elif swap:
        yield "memory", "memory.swap.max", str(_swap_alone(swap, limit, read))
    if reservation := memory.get("reservation"):
        yield "memory", "memory.low", _or_max(reservation)


def _swap_alone(swap: int, limit: int, read: ReadFile) -> int:
    """The document counts memory and swap together, v2 swap alone. Raises InvalidRequest."""
    memory = limit or number(read("memory", "memory.max"))
    if memory < 0 or memory == NO_LIMIT:
        raise InvalidRequest("unable to set swap limit without memory limit")
    if swap < memory:
        raise InvalidRequest(f"memory+swap limit should be >= memory limit: {swap} is less than {memory}")
    return swap - memory


def _pids(pids: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if limit := pids.get("limit"):
        yield "pids", "pids.max", _or_max(limit)


def _io(block_io: Mapping[str, Any], read: ReadFile) -> Iterator[tuple[str, str, str]]:
    for weight, device in _weights(block_io):
        if read("io", "io.bfq.weight") is not None:
            yield "io", "io.bfq.weight", f"{device} {weight}"
        else:
            # From 10 to 1000 of v1, to 1 to 10000.
            yield "io", "io.weight", f"{device} {1 + (max(weight, 10) - 10) * 9999 // 990}"
    for field, key in _THROTTLES.items():
        for device in block_io.get(field) or ():
            rate = device["rate"] or "max"  # v1 takes a limit away with 0
            yield "io", "io.max", f"{device['major']}:{device['minor']} {key}={rate}"


def _weights(block_io: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    if weight := block_io.get("weight"):
        yield weight, "default"
    for device in block_io.get("weightDevice") or ():
        if weight := device.get("weight"):
            yield weight, f"{device['major']}:{device['minor']}"


def _hugepages(resources: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for limit in resources.get("hugepageLimits") or ():
        yield "hugetlb", f"hugetlb.{limit['pageSize']}.max", str(limit["limit"])


def _or_max(value: int) -> str:
    return str(value) if value > 0 else "max"
