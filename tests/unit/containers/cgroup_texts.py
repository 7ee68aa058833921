"""A container's cgroup files as text, of both versions.

Version 1 as read from a container (its numbers shortened); version 2 in the forms that
Documentation/admin-guide/cgroup-v2.rst gives.
"""

from __future__ import annotations

from agent.containers.stats import ReadFile

VERSION_1 = {
    "cpu/cpu.stat": "nr_periods 12\nnr_throttled 3\nthrottled_time 456\nnr_bursts 0\nburst_time 0\n",
    "cpuacct/cpuacct.usage": "123456789\n",
    "cpuacct/cpuacct.usage_percpu": "100000000 23456789 \n",
    "cpuacct/cpuacct.stat": "user 7\nsystem 5\n",
    "memory/memory.stat": "cache 8192\nrss 4096\nhierarchical_memory_limit 9223372036854771712\n",
    "memory/memory.usage_in_bytes": "16384\n",
    "memory/memory.max_usage_in_bytes": "32768\n",
    "memory/memory.failcnt": "2\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/memory.memsw.usage_in_bytes": "20000\n",
    "memory/memory.memsw.max_usage_in_bytes": "40000\n",
    "memory/memory.memsw.failcnt": "1\n",
    "memory/memory.memsw.limit_in_bytes": "65536\n",
    "memory/memory.kmem.usage_in_bytes": "300\n",
    "memory/memory.kmem.max_usage_in_bytes": "400\n",
    "memory/memory.kmem.failcnt": "0\n",
    "memory/memory.kmem.limit_in_bytes": "500\n",
    "memory/memory.use_hierarchy": "1\n",
    "pids/pids.current": "4\n",
    "pids/pids.max": "max\n",
    "blkio/blkio.throttle.io_serviced": "8:0 Read 9\nTotal 9\n",
    "blkio/blkio.throttle.io_serviced_recursive": "8:0 Read 9\n8:0 Write 1\n8:0 Total 10\nTotal 10\n",
    "blkio/blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Discard 0\nTotal 4096\n",
    "blkio/blkio.time_recursive": "8:16 17\n",
    "blkio/blkio.sectors_recursive": "8:16 64\n",
    "blkio/blkio.bfq.io_merged_recursive": "8:16 Async 5\nTotal 5\n",
    "hugetlb/hugetlb.2MB.usage_in_bytes": "2097152\n",
    "hugetlb/hugetlb.2MB.max_usage_in_bytes": "4194304\n",
    "hugetlb/hugetlb.2MB.failcnt": "6\n",
}

VERSION_2 = {
    "cpu/cpu.stat": (
        "usage_usec 123456\nuser_usec 100000\nsystem_usec 23456\ncore_sched.force_idle_usec 0\n"
        "nr_periods 12\nnr_throttled 3\nthrottled_usec 456\nnr_bursts 0\nburst_usec 0\n"
    ),
    "memory/memory.stat": "anon 4096\nfile 8192\nkernel 300\n",
    "memory/memory.current": "16384\n",
    "memory/memory.peak": "32768\n",
    "memory/memory.events": "low 0\nhigh 0\nmax 2\noom 1\noom_kill 1\noom_group_kill 0\n",
    "memory/memory.max": "max\n",
    "memory/memory.swap.current": "20\n",
    "memory/memory.swap.events": "high 0\nmax 7\nfail 7\n",
    "memory/memory.swap.max": "65536\n",
    "pids/pids.current": "4\n",
    "pids/pids.max": "50\n",
    "io/io.stat": "8:0 rbytes=4096 wbytes=512 rios=9 wios=1 dbytes=0 dios=0 cost.usage=3\n253:1 \n",
    "hugetlb/hugetlb.2MB.current": "2097152\n",
    "hugetlb/hugetlb.2MB.events": "max 6\n",
    "hugetlb/hugetlb.2MB.max": "max\n",
}

NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls ...
    lo:    6405      87    0    0    0     0          0         0     6405      87    0    0    0     0  0  0
  eth0: 1440558719   39433    1    2    0     0          0         0  2415651   23980    3    4    0  0  0  0
eth0.5:7 6 5 4 0 0 0 0 3 2 1 0 0 0 0 0
"""


def reader(texts: dict[str, str]) -> ReadFile:
    """Reads from `texts`; what is not there does not exist."""
    return lambda controller, name: texts.get(f"{controller}/{name}")
