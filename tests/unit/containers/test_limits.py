"""From an OCI document's resources to the values of cgroup files, and how they are written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from agent.containers import limits_v1, limits_v2
from agent.containers.cgroup_files import CgroupFiles
from agent.containers.limits import Limit, check, previous_value, set_all, update_limits
from agent.errors import InvalidRequest, KernelRefused, Unsupported
from tests.unit.containers.cgroup_texts import VERSION_1, VERSION_2, reader

ALL = {
    "cpu": {"shares": 512, "quota": 50000, "period": 100000},
    "memory": {"limit": 1000, "swap": 3000, "reservation": 500},
    "pids": {"limit": 33},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
}
UNLIMITED: dict[str, Any] = {"cpu": {"quota": -1}, "memory": {"limit": -1}, "pids": {"limit": -1}}


def test_version_1() -> None:
    assert limits_v1.limits(ALL, reader(VERSION_1)) == [
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("memory", "memory.limit_in_bytes", "1000"),
        ("memory", "memory.memsw.limit_in_bytes", "3000"),
        ("memory", "memory.soft_limit_in_bytes", "500"),
        ("pids", "pids.max", "33"),
        ("hugetlb", "hugetlb.2MB.limit_in_bytes", "0"),
    ]
    assert limits_v1.limits(UNLIMITED, reader(VERSION_1)) == [
        ("cpu", "cpu.cfs_quota_us", "-1"),
        ("memory", "memory.limit_in_bytes", "-1"),
        ("memory", "memory.memsw.limit_in_bytes", "-1"),
        ("pids", "pids.max", "max"),
    ]
    without_swap = limits_v1.limits({"memory": {"limit": -1}}, reader({}))
    assert without_swap == [("memory", "memory.limit_in_bytes", "-1")]


def test_version_1_alone() -> None:
    resources = {
        "memory": {"kernelTCP": 5, "swappiness": 60, "disableOOMKiller": True},
        "blockIO": {
            "weight": 300,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 200}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 77}],
        },
        "network": {"classID": 9, "priorities": [{"name": "eth0", "priority": 3}]},
    }
    assert limits_v1.limits(resources, reader({})) == [
        ("memory", "memory.kmem.tcp.limit_in_bytes", "5"),
        ("memory", "memory.swappiness", "60"),
        ("memory", "memory.oom_control", "1"),
        ("net_cls", "net_cls.classid", "9"),
        ("blkio", "blkio.bfq.weight", "300"),
        ("blkio", "blkio.bfq.weight_device", "8:0 200"),
        ("blkio", "blkio.throttle.read_bps_device", "8:0 77"),
        ("net_prio", "net_prio.ifpriomap", "eth0 3"),
    ]
    for section, field in (("memory", "kernel"), ("network", "classID"), ("cpu", "realtimeRuntime")):
        with pytest.raises(Unsupported, match=rf"{section}\.{field} cannot be set: cgroup v2"):
            limits_v2.limits({section: {field: 5}}, reader(VERSION_2))


def test_version_2() -> None:
    assert limits_v2.limits(ALL, reader(VERSION_2)) == [
        ("cpu", "cpu.weight", "20"),
        ("cpu", "cpu.max", "50000 100000"),
        ("memory", "memory.max", "1000"),
        ("memory", "memory.swap.max", "2000"),
        ("memory", "memory.low", "500"),
        ("pids", "pids.max", "33"),
        ("hugetlb", "hugetlb.2MB.max", "0"),
    ]
    assert limits_v2.limits(UNLIMITED, reader(VERSION_2)) == [
        ("cpu", "cpu.max", "max"),
        ("memory", "memory.max", "max"),
        ("memory", "memory.swap.max", "max"),
        ("pids", "pids.max", "max"),
    ]


@pytest.mark.parametrize(("shares", "weight"), [(2, "1"), (1024, "39"), (262144, "10000"), (1, "1")])
def test_weights_of_version_2(shares: int, weight: str) -> None:
    assert limits_v2.limits({"cpu": {"shares": shares}}, reader({})) == [("cpu", "cpu.weight", weight)]


def test_a_period_alone_keeps_the_quota() -> None:
    files = reader({"cpu/cpu.max": "40000 100000\n"})
    assert limits_v2.limits({"cpu": {"period": 50000}}, files) == [("cpu", "cpu.max", "40000 50000")]


def test_swap_of_version_2_needs_a_memory_limit() -> None:
    with pytest.raises(InvalidRequest, match="unable to set swap limit without memory limit"):
        limits_v2.limits({"memory": {"swap": 5}}, reader(VERSION_2))
    files = reader({**VERSION_2, "memory/memory.max": "4096\n"})
    assert limits_v2.limits({"memory": {"swap": 5000}}, files) == [("memory", "memory.swap.max", "904")]
    with pytest.raises(InvalidRequest, match="4000 is less than 4096"):
        limits_v2.limits({"memory": {"swap": 4000}}, files)


def test_io_of_version_2() -> None:
    device = {"major": 8, "minor": 0}
    resources = {
        "blockIO": {
            "weight": 1000,
            "weightDevice": [{**device, "weight": 10}],
            "throttleWriteIOPSDevice": [{**device, "rate": 5}, {"major": 8, "minor": 16, "rate": 0}],
        }
    }
    assert limits_v2.limits(resources, reader({})) == [
        ("io", "io.weight", "default 10000"),
        ("io", "io.weight", "8:0 1"),
        ("io", "io.max", "8:0 wiops=5"),
        ("io", "io.max", "8:16 wiops=max"),
    ]
    bfq = reader({"io/io.bfq.weight": "default 100\n"})
    assert limits_v2.limits(resources, bfq)[0] == ("io", "io.bfq.weight", "default 1000")


def test_nothing_is_nothing() -> None:
    empty: dict[str, Any] = {"cpu": {}, "memory": {"limit": 0}, "pids": {"limit": 0}, "devices": [{}]}
    assert limits_v1.limits(empty, reader(VERSION_1)) == []
    assert limits_v2.limits(empty, reader(VERSION_2)) == []


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"swappiness": 101}},
        {"memory": {"limit": 5, "swap": 4}},
        {"cpu": {"cpus": "a"}},
        {"cpu": {"mems": "0-"}},
        {"hugepageLimits": [{"pageSize": "../../x", "limit": 1}]},
    ],
)
def test_contradictions(resources: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        check(resources)


@pytest.mark.parametrize(
    ("value", "text", "previous"),
    [
        ("512", "1024\n", "1024"),
        ("max", "77\n", "77"),
        ("0-1", "\n", ""),
        ("50000 100000", "max 100000\n", "max 100000"),
        ("max 100000", "50000 100000\n", "50000 100000"),
        ("1", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "0"),
        ("8:0 77", "8:0 5\n8:16 6\n", "8:0 5"),
        ("8:0 77", "8:16 6\n", "8:0 0"),
        ("8:0 rbps=77", "8:0 rbps=5 wbps=max\n", "8:0 rbps=5 wbps=max"),
        ("8:0 rbps=77", "", "8:0 rbps=max"),
        ("default 10", "default 100\n8:0 5\n", "default 100"),
        ("1", None, None),
    ],
)
def test_the_way_back(value: str, text: str | None, previous: str | None) -> None:
    assert previous_value(value, text) == previous


class Kernel:
    """Files of which `b` must not be below `a`, as with the limits of memory, and swap."""

    def __init__(self, **values: int) -> None:
        self.values = values
        self.writes: list[str] = []

    def write(self, _controller: str, file: str, value: str) -> None:
        self.writes.append(f"{file}={value}")
        if file not in self.values:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", file)
        new = {**self.values, file: int(value)}
        if new["b"] < new["a"]:
            raise OSError(errno.EINVAL, "Invalid argument", file)
        self.values = new


def limit(file: str, value: int, old: int, **options: Any) -> Limit:
    return Limit("c", file, str(value), str(old), **options)


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize(("old", "new"), [(1, 5), (5, 1)])
def test_an_order_is_found(order: str, old: int, new: int) -> None:
    kernel = Kernel(a=old, b=old)
    set_all([limit(name, new, old) for name in order], kernel.write)
    assert kernel.values == {"a": new, "b": new}


def test_a_refusal_takes_all_back() -> None:
    kernel = Kernel(a=1, b=2, c=3)
    with pytest.raises(KernelRefused, match=r"setting a to 9 failed: Invalid argument \(EINVAL\)"):
        set_all([limit("c", 4, 3), limit("a", 9, 1), limit("b", 8, 2)], kernel.write)
    assert kernel.values == {"a": 1, "b": 2, "c": 3}
    assert kernel.writes[-1] == "c=3"


def test_a_file_that_is_not_there() -> None:
    kernel = Kernel(a=1, b=2)
    with pytest.raises(Unsupported, match="this guest's kernel has no zz"):
        set_all([limit("a", 2, 1), limit("zz", 1, 1)], kernel.write)
    assert kernel.values == {"a": 1, "b": 2}


def test_what_may_fail() -> None:
    kernel = Kernel(a=1, b=2)
    set_all([limit("a", 9, 1, may_fail=True), limit("b", 3, 2)], kernel.write)
    assert kernel.values == {"a": 1, "b": 3}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A cpuset hierarchy with a container in it, which is only plain files."""
    for place, cpus in ((".", "0-3"), ("pods", "0-1"), ("pods/c1", "0")):
        directory = tmp_path / "cpuset" / place
        directory.mkdir(exist_ok=True, parents=True)
        for name, text in (("cpus", cpus), ("mems", "0")):
            (directory / f"cpuset.{name}").write_text(f"{text}\n")
    return tmp_path


def cpus(tree: Path, place: str) -> str:
    return (tree / "cpuset" / place / "cpuset.cpus").read_text().strip()


def test_cpus_reach_the_container_through_its_parents(tree: Path) -> None:
    update_limits(CgroupFiles("/pods/c1", str(tree)), {"cpu": {"cpus": "2-3"}}, cpus_may_come=False)
    assert cpus(tree, "pods") == "0-3"
    assert cpus(tree, "pods/c1") == "2-3"
    assert cpus(tree, ".") == "0-3"


def test_the_processes_of_a_cgroup(tmp_path: Path) -> None:
    for place, text in (("c1", f"{os.getpid()}\n0\n"), ("c1/inner", "7\n8\n")):
        (tmp_path / "pids" / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / "pids" / place / "cgroup.procs").write_text(text)
    assert CgroupFiles("/c1", str(tmp_path)).processes() == {os.getpid(), 7, 8}
    assert CgroupFiles("/c2", str(tmp_path)).processes() == set()
