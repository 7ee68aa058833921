"""The specification of a container, and what is taken out of it for a guest."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from host.container_config import ContainerConfig, Mount, Rlimit, SharedRootfs, check_identifier
from host.errors import InvalidInput
from host.oci_spec import (
    CAPABILITIES,
    DEFAULT_MOUNTS,
    OciSpec,
    constrain_spec,
    default_spec,
    hugepage_limits,
    merge_mounts,
    spec_mounts,
    take_pid_namespace,
)

CONFIG = ContainerConfig(
    container_id="0123456789abcdef",
    rootfs=SharedRootfs(Path("/rootfs")),
    args=("sh", "-c", "exit 37"),
    passwd="root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n",
    group="adm:x:4:web\n",
)


def environment(config: ContainerConfig) -> dict[str, str]:
    """The environment that the specification of `config` gives."""
    return dict(entry.split("=", 1) for entry in default_spec(config)["process"]["env"])


def test_defaults_are_dockers() -> None:
    spec = default_spec(CONFIG)
    assert spec["process"]["args"] == ["sh", "-c", "exit 37"]
    assert spec["process"]["cwd"] == "/"
    assert spec["process"]["terminal"] is False
    assert spec["hostname"] == "0123456789ab"
    assert [mount["destination"] for mount in spec["mounts"]] == [
        "/proc",
        "/dev",
        "/dev/pts",
        "/sys",
        "/sys/fs/cgroup",
        "/dev/mqueue",
        "/dev/shm",
    ]
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} < set(spec["linux"]["maskedPaths"])
    assert "/proc/sys" in spec["linux"]["readonlyPaths"]
    assert spec["linux"]["resources"] == {}


def test_environment_has_defaults_that_the_users_wins_over() -> None:
    assert environment(CONFIG) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": "0123456789ab",
        "HOME": "/root",
    }
    changed = environment(replace(CONFIG, terminal=True, environment={"PATH": "/x", "A": "b=c"}))
    assert (changed["PATH"], changed["TERM"], changed["A"]) == ("/x", "xterm", "b=c")


def test_root_has_dockers_capabilities_and_others_only_the_bound() -> None:
    root = default_spec(CONFIG)["process"]["capabilities"]
    web = default_spec(replace(CONFIG, user="web"))["process"]["capabilities"]
    assert root == {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")}
    assert web == {"bounding": list(CAPABILITIES), "effective": [], "permitted": []}


def test_user_is_looked_up_in_the_root_filesystem() -> None:
    spec = default_spec(replace(CONFIG, user="web"))
    assert spec["process"]["user"] == {"uid": 33, "gid": 34, "additionalGids": [34, 4]}
    assert "HOME=/var/www" in spec["process"]["env"]


def test_limits_and_rights_are_carried() -> None:
    config = replace(
        CONFIG,
        memory_bytes=64 << 20,
        cpus=1.5,
        rlimits=(Rlimit("RLIMIT_NOFILE", 1024, 4096),),
        read_only_rootfs=True,
        hostname="box",
    )
    spec = default_spec(config)
    assert spec["linux"]["resources"] == {
        "memory": {"limit": 64 << 20},
        "cpu": {"quota": 150_000, "period": 100_000},
    }
    assert spec["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}]
    assert spec["root"]["readonly"] is True
    assert spec["hostname"] == "box"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"args": ()}, "has no command"),
        ({"cwd": "tmp"}, "'tmp' is relative"),
        ({"user": "nobody"}, "no user 'nobody'"),
        ({"mounts": (Mount("data", "/x", "bind"),)}, "'data' cannot be a mount's destination"),
        ({"mounts": (Mount("/", "/x", "bind"),)}, "'/' cannot be"),
        ({"mounts": (Mount("/a/../../b", "/x", "bind"),)}, "cannot be a mount's destination"),
        ({"mounts": (Mount("/a", "/x", "bind"), Mount("/a/", "/y", "bind"))}, "have the destination /a"),
    ],
)
def test_impossible_containers_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        default_spec(replace(CONFIG, **changes))


def test_own_mounts_replace_the_defaults_they_cover_and_outer_come_first() -> None:
    own = [Mount("/data/in/ner", "/i", "bind"), Mount("/dev", "/d", "bind"), Mount("/data", "/o", "bind")]
    merged = [entry.destination for entry in merge_mounts(DEFAULT_MOUNTS, own)]
    assert merged == ["/proc", "/sys", "/sys/fs/cgroup", "/dev", "/data", "/data/in/ner"]


def test_mounts_survive_the_document() -> None:
    own = (Mount("/data", "/srv", "bind", ("rbind", "ro")),)
    assert spec_mounts(default_spec(replace(CONFIG, mounts=own))) == [*DEFAULT_MOUNTS, *own]


FULL: OciSpec = {
    "hooks": {"prestart": [{"path": "/host/hook"}]},
    "process": {"selinuxLabel": "label", "args": ["sh"]},
    "mounts": [{"destination": "/x"}],
    "linux": {
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
        "cgroupsPath": "system.slice:docker:0123",
        "sysctl": {"net.core.somaxconn": "1"},
        "namespaces": [
            {"type": "network", "path": "/run/netns/x"},
            {"type": "cgroup"},
            {"type": "time"},
            {"type": "mount"},
            {"type": "ipc", "path": "/proc/1/ns/ipc"},
        ],
        "devices": [
            {"path": "/dev/vfio/12", "type": "c"},
            {"path": "/dev/vfio/12", "type": "b"},
            {"path": "/dev/vfiofoo", "type": "c"},
        ],
        "resources": {
            "devices": [{"allow": False}],
            "pids": {"limit": 1},
            "blockIO": {"weight": 1},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}],
            "network": {"classID": 1},
            "cpu": {"shares": 2, "cpus": "0-3", "mems": "0"},
            "memory": {"limit": 5},
        },
    },
}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (lambda spec: spec.get("hooks"), None),
        (lambda spec: spec["process"], {"args": ["sh"]}),
        (lambda spec: spec["mounts"], [{"destination": "/x"}]),
        (lambda spec: spec["linux"].get("seccomp"), None),
        (lambda spec: spec["linux"]["cgroupsPath"], "/docker/0123"),
        (lambda spec: spec["linux"]["sysctl"], {"net.core.somaxconn": "1"}),
        (lambda spec: spec["linux"]["namespaces"], [{"type": "mount"}, {"type": "ipc"}]),
        (
            lambda spec: spec["linux"]["devices"],
            [{"path": "/dev/vfio/12", "type": "b"}, {"path": "/dev/vfiofoo", "type": "c"}],
        ),
        (lambda spec: spec["linux"]["resources"], {"cpu": {"shares": 2}, "memory": {"limit": 5}}),
    ],
)
def test_what_a_guest_must_not_see_is_taken_out(part: Callable[[OciSpec], Any], expected: object) -> None:
    assert part(constrain_spec(FULL)) == expected


def test_constraining_leaves_the_original_and_changes_nothing_twice() -> None:
    before = copy.deepcopy(FULL)
    once = constrain_spec(FULL)
    assert before == FULL
    assert constrain_spec(once) == once


def test_resources_are_always_there_and_seccomp_can_stay() -> None:
    assert constrain_spec({})["linux"]["resources"] == {}
    assert constrain_spec({"linux": {"resources": None}})["linux"]["resources"] == {}
    assert "seccomp" in constrain_spec(FULL, keep_seccomp=True)["linux"]


def test_plain_cgroup_path_stays() -> None:
    assert constrain_spec({"linux": {"cgroupsPath": "/pykata/x"}})["linux"]["cgroupsPath"] == "/pykata/x"


@pytest.mark.parametrize(
    ("namespaces", "left", "shares"),
    [
        ([{"type": "pid"}, {"type": "ipc"}], [{"type": "ipc"}], False),
        ([{"type": "pid", "path": "/proc/7/ns/pid"}], [], True),
        ([{"type": "pid", "path": ""}], [], False),
        (None, [], False),
    ],
)
def test_pid_namespace_becomes_a_word_of_the_request(
    namespaces: list[dict[str, str]] | None, left: list[dict[str, str]], shares: bool
) -> None:
    spec, shared = take_pid_namespace({"linux": {"namespaces": namespaces}})
    assert spec["linux"]["namespaces"] == left
    assert shared is shares


def test_hugepage_limits_are_read_in_bytes() -> None:
    assert hugepage_limits(FULL) == {2 << 20: 4 << 20}
    assert hugepage_limits({}) == {}


@pytest.mark.parametrize("identifier", ["ab", "0123", "a.b_c-d", "a" * 128])
def test_identifiers_that_the_agent_takes(identifier: str) -> None:
    check_identifier("container", identifier)


@pytest.mark.parametrize("identifier", ["", "a", "..", "../x", ".ab", "a/b", "-ab", "ab\n", "äöü", "a" * 129])
def test_other_identifiers_are_refused(identifier: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a container id"):
        check_identifier("container", identifier)
