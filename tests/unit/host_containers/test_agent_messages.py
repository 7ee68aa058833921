"""An OCI document in the messages of either generation."""

from __future__ import annotations

from types import ModuleType

import pytest

from agent.service.oci_document import spec_document
from host.agent_messages import fill_message
from host.create_sandbox import create_sandbox_request
from host.oci_spec import constrain_spec, default_spec
from protos import kata1, kata2
from tests.unit.host_containers.test_oci_spec import CONFIG

BOTH = pytest.mark.parametrize("messages", [kata1, kata2], ids=["kata1", "kata2"])

DOCUMENT = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 1, "gid": 2, "additionalGids": [3, 4]},
        "args": ["sh"],
        "env": ["A=b"],
        "cwd": "/w",
        "capabilities": {"bounding": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_CORE", "hard": 2**64 - 1, "soft": 0}],
        "noNewPrivileges": True,
        "oomScoreAdj": -5,
    },
    "root": {"path": "/r", "readonly": True},
    "hostname": "h",
    "mounts": [{"destination": "/d", "source": "s", "type": "bind", "options": ["ro"]}],
    "annotations": {"k": "v"},
    "linux": {
        "uidMappings": [{"hostID": 1, "containerID": 0, "size": 10}],
        "sysctl": {"kernel.x": "1"},
        "cgroupsPath": "/c",
        "namespaces": [{"type": "ipc"}],
        "devices": [{"path": "/dev/x", "type": "b", "major": 8, "minor": 1, "fileMode": 0o660}],
        "resources": {
            "memory": {"limit": 5, "disableOOMKiller": True},
            "cpu": {"quota": -1, "period": 100000},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]},
        },
        "maskedPaths": ["/m"],
        "readonlyPaths": ["/p"],
        "intelRdt": {"l3CacheSchema": "L3"},
    },
}


@BOTH
def test_every_member_finds_its_field(messages: ModuleType) -> None:
    spec = fill_message(messages.Spec(), DOCUMENT)
    back = spec_document(spec)
    # The reader of the other end writes what it cannot tell from "not given"; all else is as it was.
    assert back["process"] == DOCUMENT["process"]
    assert back["mounts"] == DOCUMENT["mounts"]
    assert back["annotations"] == {"k": "v"}
    assert back["linux"]["resources"] == DOCUMENT["linux"]["resources"]  # type: ignore[index]  # a JSON object
    assert back["linux"]["intelRdt"] == {"l3CacheSchema": "L3"}
    assert back["linux"]["devices"][0]["fileMode"] == 0o660
    assert (back["ociVersion"], back["root"], back["hostname"]) == (
        "1.0.2",
        {"path": "/r", "readonly": True},
        "h",
    )


@BOTH
def test_an_empty_object_is_present_and_an_absent_one_is_not(messages: ModuleType) -> None:
    spec = fill_message(messages.Spec(), {"linux": {"resources": {}}})
    assert spec.Linux.HasField("Resources")  # type: ignore[attr-defined]  # generated
    assert not spec.HasField("Process")


@BOTH
def test_the_default_specification_reaches_the_other_end(messages: ModuleType) -> None:
    document = constrain_spec(default_spec(CONFIG))
    back = spec_document(fill_message(messages.Spec(), document))
    assert back["process"]["args"] == ["sh", "-c", "exit 37"]
    assert back["mounts"] == document["mounts"]
    assert back["process"]["capabilities"] == document["process"]["capabilities"]
    assert {entry["type"] for entry in back["linux"]["namespaces"]} == {"mount", "uts", "ipc", "pid"}


def test_what_a_generation_has_no_field_for_is_left_out() -> None:
    hooks = {"hooks": {"createRuntime": [{"path": "/h"}], "prestart": [{"path": "/p"}]}}
    assert len(fill_message(kata2.Spec(), hooks).Hooks.CreateRuntime) == 1  # type: ignore[attr-defined]  # generated
    assert len(fill_message(kata1.Spec(), hooks).Hooks.Prestart) == 1  # type: ignore[attr-defined]  # generated


@pytest.mark.parametrize(
    "document",
    [{"hostname": 5}, {"mounts": [{"options": [5]}]}, {"process": {"user": {"uid": "root"}}}],
)
def test_members_of_another_type_are_refused(document: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        fill_message(kata2.Spec(), document)


@BOTH
def test_sandbox_request(messages: ModuleType) -> None:
    request = create_sandbox_request(
        messages,
        "sandbox-1",
        shared_fs="9p",
        hostname="h" * 70,
        dns=["nameserver 10.0.2.3"],
        kernel_modules=["dummy numdummies=2 x=y", "  "],
        shm_size=4096,
        share_pid_namespace=True,
    )
    fields = {descriptor.name: value for descriptor, value in request.ListFields()}
    assert fields["hostname"] == "h" * 64
    assert fields["sandbox_id"] == "sandbox-1"
    assert list(fields["dns"]) == ["nameserver 10.0.2.3"]
    assert fields["sandbox_pidns"] is True
    assert [(m.name, list(m.parameters)) for m in fields["kernel_modules"]] == [
        ("dummy", ["numdummies=2", "x=y"])
    ]
    assert [(s.driver, s.source) for s in fields["storages"]] == [("9p", "kataShared"), ("ephemeral", "shm")]
