"""Metrics as text, and what is left out of them."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.processes.reaper import Reaper
from agent.service import kata2, metrics_calls
from agent.service.agent import Agent, GuestPaths
from agent.service.metrics_calls import collect, get_metrics
from agent.service.prometheus import Family, Sample, exposition, items, nested_items, number
from agent.service.requests import NoArguments

LINE = re.compile(
    r"# (HELP|TYPE) [a-z_]+ .+"
    r'|[a-z_]+(\{[a-z]+="(\\.|[^"\\])*"(,[a-z]+="(\\.|[^"\\])*")*\})? -?[0-9.e+]+'
)


def test_the_format() -> None:
    text = exposition(
        [
            number("scrapes", "How often", 3, "counter"),
            items("load", "Load", {"load1": 0.5}),
            nested_items("times", "Times", {"0": {"user": 1}, "1": {}}, label="cpu"),
            Family("empty", "Nothing", ()),
        ]
    )
    assert text == (
        "# HELP scrapes How often\n# TYPE scrapes counter\nscrapes 3\n"
        '# HELP load Load\n# TYPE load gauge\nload{item="load1"} 0.5\n'
        '# HELP times Times\n# TYPE times gauge\ntimes{cpu="0",item="user"} 1\n'
    )


def test_labels_are_escaped() -> None:
    family = Family("m", "M", (Sample(1, {"mount": 'a"b\\c\nd'}),))
    assert exposition([family]).splitlines()[-1] == r'm{mount="a\"b\\c\nd"} 1'


def names(families: list[Family]) -> set[str]:
    return {family.name for family in families}


def test_the_originals_names_on_this_kernel() -> None:
    families = list(collect("/proc"))
    agent = ("threads", "total_time", "total_vm", "total_rss", "proc_status", "io_stat", "proc_stat")
    guest = (
        "load",
        "tasks",
        "cpu_time",
        "vm_stat",
        "netdev_stat",
        "diskstat",
        "meminfo",
        "filesystem_bytes",
        "filesystem_inodes",
    )
    assert names(families) == {f"kata_agent_{n}" for n in agent} | {f"kata_guest_{n}" for n in guest}
    text = exposition(families)
    assert [line for line in text.splitlines() if not LINE.fullmatch(line)] == []
    assert 'kata_guest_cpu_time{cpu="total",item="user"}' in text
    assert 'kata_guest_netdev_stat{interface="lo",item="recv_bytes"}' in text
    assert 'kata_agent_proc_status{item="vmrss"}' in text


def test_what_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "loadavg").write_text("0.1 0.2 0.3 1/2 3\n")
    (tmp_path / "meminfo").write_text("nonsense\n")
    (tmp_path / "vmstat").write_text("nonsense\n")
    caplog.set_level(logging.INFO)
    assert names(list(collect(str(tmp_path)))) == {"kata_guest_load", "kata_guest_tasks"}
    assert len(caplog.records) == 9


def test_each_filesystem_once(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    table = [
        f"1 0 254:1 / {tmp_path} rw - ext4 /dev/vda1 rw",
        f"2 1 254:1 /sub {tmp_path}/self rw - ext4 /dev/vda1 rw",
        "3 1 254:2 / /nowhere ro - xfs /dev/vdb rw",
        "4 1 254:3 / /nowhere rw - xfs /dev/vdc ro",
        "5 1 0:9 / /proc rw - proc proc rw",
        "6 1 0:10 / /nowhere rw - virtiofs kataShared rw",
    ]
    (tmp_path / "self/mountinfo").write_text("\n".join(table) + "\n")
    size, inodes = metrics_calls._filesystems(str(tmp_path))
    places = [(sample.labels["mount"], sample.labels["device"]) for sample in size.samples]
    assert places == [(str(tmp_path), "/dev/vda1")] * 3
    by_item = {sample.labels["item"]: sample.value for sample in size.samples}
    assert by_item["total"] == by_item["used"] + by_item["available"] > 0
    assert len(inodes.samples) == 3


async def test_scrapes_are_counted(tmp_path: Path) -> None:
    agent = Agent(AgentConfig(), Reaper(), guest_paths=GuestPaths(procfs=str(tmp_path)))
    for count in (1, 2):
        text = await get_metrics(agent, NoArguments(), kata2.RULES)
        assert text.splitlines()[-1] == f"kata_agent_scrape_count {count}"
