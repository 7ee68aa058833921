"""The guest itself: health, hardware, network, files, operations."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from typing import Any

from tests.contract.rpc.cases import INTERNAL, INVALID, OK, UNIMPLEMENTED, UNKNOWN, Fields, Row

_SHARED = "/run/kata-containers/shared/containers"
_FILE: Fields = {
    "path": f"{_SHARED}/rpc-table",
    "file_size": 3,
    "file_mode": stat.S_IFREG | 0o600,
    "dir_mode": 0o755,
    "data": b"abc",
}


def _lo(answer: Any) -> bool:
    return any(each.name == "lo" for each in answer.Interfaces)


TABLES: Mapping[str, Sequence[Row]] = {
    "Check": [Row("none", {}, answer={"status": 1}), Row("running", {}, answer={"status": 1})],
    "Version": [Row("none", {}, answer=lambda answer: answer.agent_version), Row("running", {})],
    "GetGuestDetails": [
        Row("none", {}, answer=lambda answer: answer.agent_details.version),
        Row("sandbox", {"mem_block_size": True, "mem_hotplug_probe": True}),
    ],
    "GetMetrics": [Row("none", {}, old=None, answer=lambda answer: "kata_agent_total_rss" in answer.metrics)],
    "GetOOMEvent": [],  # waits; test_agent_resources.py has it
    "OnlineCPUMem": [
        Row("none", {"wait": True, "nb_cpus": 0, "cpu_only": True}, OK, UNKNOWN, "greater than 0"),
        Row("sandbox", {"wait": False, "nb_cpus": 1, "cpu_only": True}),
    ],
    "MemHotplugByProbe": [Row("none", {}), Row("sandbox", {})],
    "ReseedRandomDev": [
        Row("none", {}, INTERNAL, UNKNOWN, "missing entropy data"),
    ],
    "SetGuestDateTime": [
        Row("none", {"Sec": 1 << 62}, INTERNAL, INTERNAL),
        Row("sandbox", {"Sec": -1, "Usec": 0}, INTERNAL, INTERNAL),
    ],
    "CopyFile": [
        Row("none", _FILE),
        Row("sandbox", {**_FILE, "path": f"{_SHARED}/../../../../../etc/rpc-table"}, INTERNAL, UNKNOWN),
        Row("sandbox", {**_FILE, "path": "/etc/rpc-table"}, INTERNAL, UNKNOWN),
        Row("sandbox", {**_FILE, "path": ""}, INTERNAL, UNKNOWN),
    ],
    "UpdateInterface": [
        Row("none", {}, INVALID, INVALID, "no interface"),
        Row("sandbox", {"interface": {"name": "eth9"}}, INTERNAL, INVALID),
        Row("sandbox", {"interface": {"name": "eth9", "hwAddr": "02:00:00:00:00:99"}}, INTERNAL, INTERNAL),
    ],
    "UpdateRoutes": [
        Row("none", {}, INVALID, INVALID, "no routes"),
        Row("none", {"routes": {}}),
    ],
    "ListInterfaces": [Row("none", {}, answer=_lo), Row("running", {}, answer=_lo)],
    "ListRoutes": [Row("none", {}), Row("running", {})],
    "AddARPNeighbors": [
        Row("none", {}, INVALID, INVALID, "no neighbors"),
        Row("none", {"neighbors": {}}),
        Row(
            "none",
            {"neighbors": {"ARPNeighbors": [{"toIPAddress": {"address": "10.0.0.1"}, "device": "eth9"}]}},
            INVALID,
            INVALID,
        ),
    ],
    "GetIPTables": [Row("none", {}, old=None), Row("none", {"is_ipv6": True}, old=None)],
    "SetIPTables": [Row("none", {"data": b"nonsense\n"}, INTERNAL, None)],
    "AddSwap": [Row("none", {}, INTERNAL, None, "no PCI path")],
    "AddSwapPath": [
        Row("none", {"path": "relative"}, INTERNAL, None, "relative"),
        Row("none", {"path": "/nothing"}, INTERNAL, None, "/nothing"),
    ],
    "GetVolumeStats": [
        Row("none", {"volume_guest_path": "/run"}, old=None, answer=lambda answer: len(answer.usage) == 2),
        Row("none", {"volume_guest_path": "/nothing"}, INTERNAL, None, "/nothing"),
    ],
    "ResizeVolume": [Row("none", {"size": 1}, INVALID, None)],
    "UpdateEphemeralMounts": [
        Row("none", {}, old=None),
        Row("none", {"storages": [{"driver": "blk"}]}, INTERNAL, None, "blk"),
    ],
    "RemoveStaleVirtiofsShareMounts": [Row("none", {}, old=None), Row("running", {}, old=None)],
    "MemAgentMemcgSet": [Row("none", {}, INTERNAL, None, "mem-agent is disabled")],
    "MemAgentCompactSet": [Row("none", {}, INTERNAL, None, "mem-agent is disabled")],
    "StartTracing": [Row("none", {}, None, UNIMPLEMENTED, "not traced")],
    "StopTracing": [Row("none", {}, None, UNIMPLEMENTED, "not traced")],
    "SetPolicy": [
        Row("none", {"policy": "no policy"}, INVALID, None, "package agent_policy"),
        Row("none", {"policy": "package agent_policy\nA {"}, INVALID, None, "line 2"),
    ],
}
