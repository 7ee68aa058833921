"""Figures from /proc, out of files as the kernel writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.linux import procfs

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def root(tmp_path: Path) -> str:
    for directory in ("net", "self"):
        (tmp_path / directory).mkdir()
    return str(tmp_path)


def put(root: str, name: str, text: str) -> None:
    Path(root, name).write_text(text)


def test_load(root: str) -> None:
    put(root, "loadavg", "0.05 1.10 2.15 3/123 4567\n")
    assert procfs.load_average(root) == procfs.LoadAverage(0.05, 1.10, 2.15, 3, 123)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("MemTotal:       1000 kB", "mem_total", 1024000),
        ("Active(anon):      2 kB", "active_anon", 2048),
        ("SReclaimable:      1 kB", "s_reclaimable", 1024),
        ("SUnreclaim:        1 kB", "s_unreclaim", 1024),
        ("KReclaimable:      1 kB", "k_reclaimable", 1024),
        ("NFS_Unstable:      0 kB", "nfs_unstable", 0),
        ("WritebackTmp:      0 kB", "writeback_tmp", 0),
        ("Committed_AS:      3 kB", "committed_as", 3072),
        ("AnonHugePages:     0 kB", "anon_hugepages", 0),
        ("ShmemPmdMapped:    0 kB", "shmem_pmd_mapped", 0),
        ("HugePages_Total:       7", "hugepages_total", 7),
        ("Hugepagesize:   2048 kB", "hugepagesize", 2097152),
        ("Percpu:            1 kB", "per_cpu", 1024),
        ("DirectMap4k:       1 kB", "direct_map_4k", 1024),
        ("DirectMap2M:       1 kB", "direct_map_2M", 1024),
    ],
)
def test_memory(root: str, line: str, name: str, value: int) -> None:
    put(root, "meminfo", line + "\n")
    assert procfs.memory(root) == {name: value}


def test_cpu_times(root: str) -> None:
    put(root, "stat", "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 0 0 0\nintr 5 1 2\nctxt 7\n")
    times = procfs.cpu_times_ms(root)
    assert list(times) == ["total", "0"]
    assert times["total"]["guest_nice"] == 10 * TICK_MS
    assert times["0"] == {"user": TICK_MS, "nice": 0, "system": 0, "idle": 0}


def test_network_devices(root: str) -> None:
    put(
        root,
        "net/dev",
        "Inter-| Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n eth0:1:100 "
        + "0 " * 15,
    )
    devices = procfs.network_devices(root)
    assert list(devices) == ["lo", "eth0:1"]
    assert (devices["lo"]["recv_bytes"], devices["lo"]["recv_multicast"]) == (1, 8)
    assert (devices["lo"]["sent_bytes"], devices["lo"]["sent_compressed"]) == (9, 16)
    assert devices["eth0:1"]["recv_bytes"] == 100


def test_disks_of_an_old_and_a_new_kernel(root: str) -> None:
    put(
        root,
        "diskstats",
        f"254 0 vda {' '.join(map(str, range(1, 18)))} 99\n 254 1 vda1 1 2 3 4 5 6 7 8 9 10 11\n",
    )
    disks = procfs.disks(root)
    assert (disks["vda"]["reads"], disks["vda"]["time_flushing"], len(disks["vda"])) == (1, 17, 17)
    assert (disks["vda1"]["weighted_time_in_progress"], len(disks["vda1"])) == (11, 11)


def test_a_process_with_an_awkward_name(root: str) -> None:
    fields = ["S", *map(str, range(4, 53))]
    put(root, "self/stat", f"42 (a) b (c)) {' '.join(fields)}\n")
    times = procfs.process_times(root)
    assert (times.utime, times.stime, times.cutime, times.cstime) == (14, 15, 16, 17)
    assert (times.threads, times.virtual_bytes) == (20, 23)
    assert times.resident_bytes == 24 * os.sysconf("SC_PAGE_SIZE")
    assert times.seconds == 29 * TICK_MS / 1000


def test_memory_and_input_of_a_process(root: str) -> None:
    put(root, "self/status", "Name:\tkB\nVmPeak:\t  12 kB\nThreads:\t3\nnonvoluntary_ctxt_switches:\t5\n")
    assert procfs.process_memory(root) == {"vmpeak": 12, "nonvoluntary_ctxt_switches": 5}
    put(root, "self/io", "rchar: 1\ncancelled_write_bytes: 0\n")
    assert procfs.process_io(root) == {"rchar": 1, "cancelled_write_bytes": 0}


def test_vmstat(root: str) -> None:
    put(root, "vmstat", "nr_free_pages 5\nnr_zone_inactive_anon 6\n")
    assert procfs.virtual_memory(root) == {"nr_free_pages": 5, "nr_zone_inactive_anon": 6}
