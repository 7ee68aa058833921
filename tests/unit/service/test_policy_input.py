"""The document that a policy's rules see of a request."""

from __future__ import annotations

import json
import stat
import time

import pytest

from agent.errors import AgentError, CodedError
from agent.service.policy_input import input_document, rule_name
from agent.service.rego import UNDEFINED, PreparedInput, RegoPolicy
from protos import kata1, kata2


def test_names_numbers_and_nulls() -> None:
    message = kata2.CreateContainerRequest(
        container_id="c1",
        devices=[{"type": "blk", "vm_path": "/dev/vda"}],
        OCI={
            "Process": {
                "Args": ["sh"],
                "User": {"UID": 7},
                "Rlimits": [{"Type": "RLIMIT_CORE", "Hard": 2**64 - 1}],
            },
            "Annotations": {"a/b": "c"},
            "Mounts": [{"destination": "/proc", "type": "proc"}],
        },
    )
    document = input_document(message)
    assert rule_name(message) == "CreateContainerRequest"
    assert document["container_id"] == "c1"
    assert document["string_user"] is None
    assert document["storages"] == []
    assert document["sandbox_pidns"] is False
    device = document["devices"][0]
    assert (device["type_"], device["vm_path"], "type" in device) == ("blk", "/dev/vda", False)
    spec = document["OCI"]
    assert (spec["Version"], spec["Linux"], spec["Hooks"]) == ("", None, None)
    assert spec["Annotations"] == {"a/b": "c"}
    assert spec["Mounts"][0] == {"destination": "/proc", "source": "", "type_": "proc", "options": []}
    assert spec["Process"]["User"]["UID"] == 7
    assert spec["Process"]["Rlimits"][0]["Hard"] == 2**64 - 1
    assert json.loads(json.dumps(document)) == document


def test_optional_fields_that_are_given() -> None:
    document = input_document(kata2.MemAgentMemcgConfig(disabled=False, period_secs=5))
    assert (document["disabled"], document["period_secs"], document["swap"]) == (False, 5, None)


def test_bytes_are_numbers_and_enumerations_too() -> None:
    assert input_document(kata2.WriteStreamRequest(data=b"\x00a\xff"))["data"] == [0, 97, 255]
    routes = kata2.UpdateRoutesRequest(routes={"Routes": [{"family": 1}]})
    assert input_document(routes)["routes"]["Routes"][0]["family"] == 1


def test_a_choice_is_an_object() -> None:
    given = kata2.LinuxSyscall(Names=["mount"], errnoret=38)
    chosen = {name for name, value in input_document(given).items() if value == {"errnoret": 38}}
    assert len(chosen) == 1
    assert input_document(kata2.LinuxSyscall())[chosen.pop()] is None


def test_a_request_of_the_old_generation() -> None:
    document = input_document(kata1.CreateContainerRequest(agent_pidns=True))
    assert (document["agent_pidns"], "shared_mounts" in document) == (True, False)


FILE_TYPES = {
    "regular": (stat.S_IFREG | 0o644, "Regular", None),
    "directory": (stat.S_IFDIR | 0o755, "Directory", None),
    "link": (stat.S_IFLNK | 0o777, "Symlink", "../x"),
    "socket": (stat.S_IFSOCK, "Unknown", None),
    "none": (0o644, "Unknown", None),
}


@pytest.mark.parametrize("name", FILE_TYPES)
def test_copied_files_are_shown_without_their_data(name: str) -> None:
    mode, file_type, target = FILE_TYPES[name]
    request = kata2.CopyFileRequest(
        path="/a", data=b"../x", file_mode=mode, uid=1, gid=2, offset=3, file_size=4
    )
    assert input_document(request) == {
        "path": "/a",
        "file_type": file_type,
        "symlink_target": target,
        "file_size": 4,
        "file_mode": mode,
        "dir_mode": 0,
        "uid": 1,
        "gid": 2,
        "offset": 3,
    }


def test_a_link_whose_target_is_no_text() -> None:
    with pytest.raises(CodedError, match=r"/a is no UTF-8") as caught:
        input_document(kata2.CopyFileRequest(path="/a", data=b"\xff", file_mode=stat.S_IFLNK))
    assert caught.value.code == 13


def value_of(expression: str, document: object) -> object:
    policy = RegoPolicy(f"package agent_policy\nXRequest := {expression}\n")
    return policy.evaluate("XRequest", PreparedInput(document))[0]


@pytest.mark.parametrize(
    "value", [2**64 - 1, 2**63, -(2**63), 2**63 - 1, -1, 0, True, None, "ü\0x", "", [], {}]
)
def test_values_reach_the_rules_unchanged(value: object) -> None:
    """As numbers wrapped, or texts cut at a NUL, they would be something else than what is carried out."""
    answer = value_of("input.x", {"x": value})
    assert answer == value
    assert type(answer) is type(value)


def test_a_cut_text_does_not_match() -> None:
    assert value_of('input.x == "sh"', {"x": "sh\0rm"}) is not True
    assert value_of('input.x == "sh"', {"x": "sh"}) is True
    assert value_of("input.x < 0", {"x": 2**64 - 1}) is not True
    assert value_of("input.y", {"x": 1}) is UNDEFINED


def test_long_lists_take_linear_time() -> None:
    began = time.monotonic()
    assert value_of("count(input.data)", {"data": list(range(32768))}) == 32768
    assert time.monotonic() - began < 2.0
    with pytest.raises(AgentError, match="cannot be judged"):
        PreparedInput({"data": [2**63] * 300})
