"""What a host may ask for in an OCI document, and what not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.containers.oci_spec import is_valid_id, validate_process, validate_spec
from agent.errors import InvalidRequest


def good_spec() -> dict[str, Any]:
    return {
        "ociVersion": "1.0.2",
        "hostname": "box",
        "root": {"path": "/run/rootfs"},
        "process": {"args": ["sh"], "cwd": "/", "env": ["A=b"]},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data..old", "type": "bind", "source": "/x", "options": ["rbind"]},
            {"destination": "/proc/cpuinfo", "type": "bind", "source": "/y"},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "user")],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
            "sysctl": {"kernel.shmmax": "1", "fs.mqueue.msg_max": "2", "net.core.somaxconn": "3"},
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "devices": [{"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}],
            "cgroupsPath": "/kubepods/pod1/c1",
        },
    }


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("abc", True),
        ("a1", True),
        ("0f", True),
        ("a..", True),
        ("A.b_c-d", True),
        ("a" * 255, True),
        ("a" * 256, False),
        ("a", False),
        ("", False),
        (".ab", False),
        ("-ab", False),
        ("_ab", False),
        ("..", False),
        ("a/b", False),
        ("../a", False),
        ("a b", False),
        ("ab\n", False),
        ("ab\0", False),
        ("äb", False),
        ("a٣", False),
    ],
)
def test_ids(text: str, valid: bool) -> None:
    assert is_valid_id(text) is valid


@given(st.text())
def test_a_valid_id_is_one_plain_name(text: str) -> None:
    if is_valid_id(text):
        assert "/" not in text
        assert text not in (".", "..")
        assert text.isascii()
        assert text.isprintable()


def test_a_good_document_passes() -> None:
    validate_spec(good_spec())
    validate_spec({"root": {"path": "/r"}, "process": {"args": ["x"]}, "linux": {}})


def broken(*way: Any, value: Any = None, drop: bool = False) -> dict[str, Any]:
    """The good document with one place changed."""
    spec = good_spec()
    place: Any = spec
    for step in way[:-1]:
        place = place[step]
    if drop:
        del place[way[-1]]
    else:
        place[way[-1]] = value
    return spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (broken("linux", drop=True), "no linux section"),
        (broken("root", drop=True), "no root section"),
        (broken("process", drop=True), "no process section"),
        (broken("root", "path", value="rootfs"), "root.path 'rootfs' is not absolute"),
        (broken("root", "path", drop=True), "root.path None is not absolute"),
        (broken("process", "args", value=[]), "process.args is empty"),
        (broken("process", "args", value=[""]), "an empty command"),
        (broken("process", "args", value=["a\0b"]), "no C string"),
        (broken("process", "env", value=["A\0=b"]), "process.env"),
        (broken("process", "cwd", value="tmp"), "process.cwd 'tmp' is not absolute"),
        (broken("linux", "namespaces", value=[]), "hostname 'box' needs a uts namespace"),
        (broken("linux", "namespaces", 0, value={"type": "wrong"}), "unknown type 'wrong'"),
        (broken("linux", "namespaces", 0, value={"type": "ipc"}), "the type 'ipc' twice"),
        (broken("linux", "namespaces", 1, value={"type": "cgroup"}), "maskedPaths needs a mount namespace"),
        (broken("linux", "namespaces", 4, value={"type": "time"}), "uidMappings needs a user namespace"),
        (broken("linux", "gidMappings", value=[]), "a user namespace needs linux.gidMappings"),
        (broken("linux", "uidMappings", 0, "size", value=0), "a mapping of size 0"),
        (broken("linux", "namespaces", 2, value={"type": "time"}), "needs a namespace of type ipc"),
        (broken("linux", "sysctl", value={"kernel.hostname": "x"}), "use the field hostname"),
        (broken("linux", "sysctl", value={"kernel.panic": "1"}), "would change the guest"),
        (broken("linux", "sysctl", value={"net.../kernel/x": "1"}), "would change the guest"),
        (broken("linux", "maskedPaths", 0, value="proc"), "is not absolute"),
        (broken("linux", "readonlyPaths", 0, value="/a/../b"), r"holds '\.\.'"),
        (broken("mounts", 0, "destination", value="x"), "mounts.destination 'x' is not absolute"),
        (broken("mounts", 0, "destination", value="/a/../../etc"), r"holds '\.\.'"),
        (broken("mounts", 2, "destination", value="/proc/sys"), "may not cover '/proc/sys'"),
        (broken("mounts", 2, "destination", value="/./proc//1"), "may not cover '/proc/1'"),
        (broken("mounts", 1, "destination", value="/proc"), "may not cover '/proc'"),
        (broken("linux", "devices", 0, "path", value="/etc/x"), "does not lie below /dev"),
        (broken("linux", "devices", 0, "path", value="/dev"), "does not lie below /dev"),
        (broken("linux", "devices", 0, "path", value="/dev/../etc"), r"holds '\.\.'"),
        (broken("linux", "devices", 0, "type", value="z"), "unknown type 'z'"),
        (broken("linux", "devices", 0, "minor", drop=True), "lacks its major or minor"),
        (broken("linux", "cgroupsPath", value="/a/../../b"), "leads out of the cgroup tree"),
        (broken("linux", "cgroupsPath", value="a:..:b"), "leads out of the cgroup tree"),
    ],
)
def test_a_bad_document_is_refused(spec: dict[str, Any], message: str) -> None:
    before = copy.deepcopy(spec)
    with pytest.raises(InvalidRequest, match=message):
        validate_spec(spec)
    assert spec == before


def test_a_uts_sysctl() -> None:
    validate_spec(broken("linux", "sysctl", value={"kernel.domainname": "d"}))
    spec = broken("linux", "sysctl", value={"kernel.domainname": "d"})
    del spec["linux"]["namespaces"][3], spec["hostname"]
    with pytest.raises(InvalidRequest, match="needs a namespace of type uts"):
        validate_spec(spec)


def test_a_process_needs_little() -> None:
    validate_process({"args": ["x"], "env": None})
