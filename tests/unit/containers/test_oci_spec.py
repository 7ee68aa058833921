"""Edits of an OCI document: each does what it says, and the same again when repeated."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.containers.oci_spec import (
    apply_device_updates,
    cgroup_path,
    complete_process,
    deny_devices_by_default,
    deny_root_device,
    drop_namespace,
    move_net_sysctls,
    set_namespace,
)
from agent.devices.request import DeviceUpdate
from agent.errors import InvalidRequest


def device(path: str, kind: str, major: int, minor: int) -> dict[str, Any]:
    return {"path": path, "type": kind, "major": major, "minor": minor}


def rule(kind: str, major: int, minor: int, *, allow: bool = True, access: str = "rw") -> dict[str, Any]:
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


def spec_with(devices: list[dict[str, Any]], rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"linux": {"devices": devices, "resources": {"devices": rules}}}


def numbers(item: dict[str, Any]) -> tuple[str, int, int]:
    return item["type"], item["major"], item["minor"]


def test_devices_get_the_guest_s_numbers_and_their_rules_too() -> None:
    spec = spec_with([device("/dev/a", "b", 8, 0)], [rule("b", 8, 0), rule("c", 8, 0), rule("b", 9, 9)])
    apply_device_updates(spec, [DeviceUpdate("/dev/a", "/dev/vda", "b", 254, 16)])
    assert numbers(spec["linux"]["devices"][0]) == ("b", 254, 16)
    rules = spec["linux"]["resources"]["devices"]
    assert [numbers(item) for item in rules] == [("b", 254, 16), ("c", 8, 0), ("b", 9, 9), ("b", 254, 16)]
    assert rules[-1]["access"] == "rwm"


def test_guest_numbers_that_are_another_device_s_host_numbers() -> None:
    spec = spec_with(
        [device("/dev/a", "b", 1, 1), device("/dev/b", "b", 2, 2)],
        [rule("b", 1, 1, access="r"), rule("b", 2, 2, access="w")],
    )
    updates = [
        DeviceUpdate("/dev/a", "/dev/vda", "b", 2, 2),
        DeviceUpdate("/dev/b", "/dev/vdb", "b", 1, 1),
    ]
    apply_device_updates(spec, updates)
    rules = spec["linux"]["resources"]["devices"]
    assert [(numbers(item), item["access"]) for item in rules[:2]] == [(("b", 2, 2), "r"), (("b", 1, 1), "w")]


def test_a_device_may_get_another_path_and_no_rules_are_needed() -> None:
    spec: dict[str, Any] = {"linux": {"devices": [device("/dev/a", "u", 10, 1)]}}
    apply_device_updates(spec, [DeviceUpdate("/dev/a", "/dev/vfio/7", "c", 240, 0, "/dev/vfio/7")])
    assert spec["linux"]["devices"] == [device("/dev/vfio/7", "c", 240, 0)]
    assert spec["linux"]["resources"]["devices"] == [rule("c", 240, 0, access="rwm")]


@pytest.mark.parametrize(
    ("paths", "message"),
    [(["/dev/a", "/dev/a"], "two devices"), (["/dev/a", "/dev/z"], "no device '/dev/z'")],
)
def test_updates_that_do_not_fit_change_nothing(paths: list[str], message: str) -> None:
    spec = spec_with([device("/dev/a", "b", 8, 0)], [rule("b", 8, 0)])
    before = copy.deepcopy(spec)
    with pytest.raises(InvalidRequest, match=message):
        apply_device_updates(spec, [DeviceUpdate(path, "/dev/vda", "b", 1, 2) for path in paths])
    assert spec == before


@given(st.data())
def test_any_renumbering_keeps_each_rule_with_its_device(data: st.DataObject) -> None:
    keys = st.tuples(st.sampled_from("bc"), st.integers(0, 3), st.integers(0, 3))
    host = data.draw(st.lists(keys, min_size=1, max_size=5, unique=True))
    guest = data.draw(st.lists(keys, min_size=len(host), max_size=len(host), unique=True))
    devices = [device(f"/dev/{n}", *key) for n, key in enumerate(host)]
    spec = spec_with(devices, [rule(*key, access=str(n)) for n, key in enumerate(host)])
    updates = [
        DeviceUpdate(f"/dev/{n}", "/dev/x", kind, major, minor)  # type: ignore[arg-type] # "b" or "c"
        for n, (kind, major, minor) in enumerate(guest)
    ]
    apply_device_updates(spec, updates)
    assert [numbers(item) for item in spec["linux"]["devices"]] == guest
    assert {item["access"]: numbers(item) for item in spec["linux"]["resources"]["devices"]}.items() >= {
        str(n): key for n, key in enumerate(guest)
    }.items()


ALLOW_ALL: list[dict[str, Any]] = [
    {"allow": True, "access": "rwm"},
    {"allow": True, "type": "a"},
    {"allow": True, "type": "a", "major": -1, "minor": -1},
]


@pytest.mark.parametrize("allow_all", ALLOW_ALL)
def test_a_privileged_container_stays_one(allow_all: dict[str, Any]) -> None:
    spec = spec_with([], [allow_all])
    deny_devices_by_default(spec)
    assert spec["linux"]["resources"]["devices"] == [allow_all]


@pytest.mark.parametrize("linux", [{}, {"resources": None}, {"resources": {"devices": None}}])
def test_without_rules_everything_is_denied(linux: dict[str, Any]) -> None:
    spec = {"linux": linux}
    for _ in range(2):
        deny_devices_by_default(spec)
        assert spec["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]


def test_the_root_device_is_denied_last() -> None:
    spec = spec_with([], [{"allow": True, "type": "a"}])
    for _ in range(2):
        deny_root_device(spec, 254, 0)
        deny_devices_by_default(spec)
    deny_root_device(spec, 254, 1)
    denied = [rule("b", 254, minor, allow=False, access="rwm") for minor in (0, 1)]
    assert spec["linux"]["resources"]["devices"] == [{"allow": True, "type": "a"}, *denied]


def test_namespaces() -> None:
    spec: dict[str, Any] = {"linux": {"namespaces": [{"type": "pid", "path": "/host"}, {"type": "mount"}]}}
    set_namespace(spec, "ipc", "/run/ns/ipc")
    set_namespace(spec, "pid")
    set_namespace(spec, "pid")
    expected = [{"type": "mount"}, {"type": "ipc", "path": "/run/ns/ipc"}, {"type": "pid"}]
    assert spec["linux"]["namespaces"] == expected
    drop_namespace(spec, "pid")
    drop_namespace(spec, "network")
    assert spec["linux"]["namespaces"] == expected[:2]
    empty: dict[str, Any] = {}
    set_namespace(empty, "uts", "/u")
    assert empty == {"linux": {"namespaces": [{"type": "uts", "path": "/u"}]}}


def test_net_sysctls() -> None:
    spec: dict[str, Any] = {"linux": {"sysctl": {"net.ipv4.ip_forward": "1", "kernel.sem": "2"}}}
    assert move_net_sysctls(spec) == {"net.ipv4.ip_forward": "1"}
    assert spec["linux"]["sysctl"] == {"kernel.sem": "2"}
    assert move_net_sysctls(spec) == {}
    assert move_net_sysctls({}) == {}


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        (None, "/cid"),
        ("", "/cid"),
        ("/", "/cid"),
        ("/./", "/cid"),
        ("::", "/cid"),
        ("/kubepods/pod1/c", "/kubepods/pod1/c"),
        ("kubepods//c/", "/kubepods/c"),
        ("system.slice:cri:c", "/system.slice/cri/c"),
    ],
)
def test_cgroup_path(wanted: str | None, path: str) -> None:
    assert cgroup_path({"linux": {"cgroupsPath": wanted}}, "cid") == path


def test_a_further_process_inherits_what_it_does_not_bring() -> None:
    container = {"capabilities": {"bounding": ["CAP_KILL"]}, "rlimits": [1], "args": ["init"], "cwd": "/srv"}
    process = {"args": ["sh"], "capabilities": None, "rlimits": []}
    completed = complete_process(process, container)
    assert completed == {
        "args": ["sh"],
        "capabilities": {"bounding": ["CAP_KILL"]},
        "rlimits": [],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "oomScoreAdj": 0,
    }
    assert complete_process({**process, "oomScoreAdj": 7, "cwd": "/x"}, container)["oomScoreAdj"] == 7
    assert process == {"args": ["sh"], "capabilities": None, "rlimits": []}
