"""Both generations' bytes: to our requests, and from our answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices.request import DeviceRequest
from agent.errors import (
    AlreadyExists,
    CodedError,
    InvalidRequest,
    NotFound,
    StatusCode,
    Unavailable,
    WrongState,
)
from agent.network.addresses import AddressText
from agent.network.interfaces import Interface
from agent.network.neighbours import Neighbour
from agent.network.routes import Route
from agent.sandbox.sandbox import UnknownContainer
from agent.service import kata1, kata2, requests
from agent.service.messages import Codec
from agent.storage.handler import FsGroup, StorageRequest
from protos import kata1 as kata1_messages
from protos import kata2 as kata2_messages

AGENT = "grpc.AgentService"
GENERATIONS = pytest.mark.parametrize(
    ("codec", "messages"),
    [(kata1.CODEC, kata1_messages), (kata2.CODEC, kata2_messages)],
    ids=["kata1", "kata2"],
)


def decode(codec: Codec, messages: Any, method: str, **fields: Any) -> object:
    """The request that a host's message with `fields` becomes."""
    request_class, _ = messages.SERVICES[AGENT][method]
    return codec.decode(AGENT, method, request_class(**fields).SerializeToString())


def encode(codec: Codec, messages: Any, method: str, answer: object) -> Any:
    """The message that a host reads from our bytes."""
    _, response_class = messages.SERVICES[AGENT][method]
    return response_class.FromString(codec.encode(method, answer))


@GENERATIONS
@pytest.mark.parametrize(
    ("method", "fields", "request_"),
    [
        ("StartContainer", {"container_id": "c1"}, requests.StartContainer("c1")),
        ("RemoveContainer", {"container_id": "c1", "timeout": 7}, requests.RemoveContainer("c1", 7)),
        (
            "SignalProcess",
            {"container_id": "c1", "exec_id": "e1", "signal": 15},
            requests.SignalProcess("c1", "e1", 15),
        ),
        ("WaitProcess", {"container_id": "c1", "exec_id": "e1"}, requests.ProcessName("c1", "e1")),
        ("CloseStdin", {"container_id": "c1"}, requests.ProcessName("c1", "")),
        ("WriteStdin", {"container_id": "c1", "data": b"x\0"}, requests.WriteStdin("c1", "", b"x\0")),
        ("ReadStdout", {"container_id": "c1", "len": 32768}, requests.ReadStream("c1", "", 32768)),
        ("ReadStderr", {"exec_id": "e1", "len": 1}, requests.ReadStream("", "e1", 1)),
        ("TtyWinResize", {"row": 24, "column": 80}, requests.TtyWinResize("", "", 24, 80)),
        ("GetGuestDetails", {"mem_block_size": True}, requests.GetGuestDetails(True, False)),
        ("ReseedRandomDev", {"data": b"seed"}, requests.ReseedRandomDevice(b"seed")),
        ("SetGuestDateTime", {"Sec": 5, "Usec": 6}, requests.SetGuestDateTime(5, 6)),
        ("UpdateInterface", {}, requests.UpdateInterface(None)),
        ("UpdateRoutes", {}, requests.UpdateRoutes(None)),
        ("UpdateRoutes", {"routes": {}}, requests.UpdateRoutes(())),
        ("AddARPNeighbors", {}, requests.AddNeighbours(None)),
        (
            "AddARPNeighbors",
            {
                "neighbors": {
                    "ARPNeighbors": [
                        {
                            "toIPAddress": {"address": "10.0.0.1"},
                            "device": "eth0",
                            "lladdr": "m",
                            "state": 128,
                        }
                    ]
                }
            },
            requests.AddNeighbours((Neighbour("10.0.0.1", "eth0", "m", 128, 0),)),
        ),
        ("ListRoutes", {}, requests.NoArguments()),
        ("DestroySandbox", {}, requests.NoArguments()),
    ],
)
def test_requests_that_are_the_same(
    codec: Codec, messages: Any, method: str, fields: dict[str, Any], request_: object
) -> None:
    assert decode(codec, messages, method, **fields) == request_


@GENERATIONS
def test_create_sandbox(codec: Codec, messages: Any) -> None:
    request = decode(
        codec,
        messages,
        "CreateSandbox",
        hostname="box",
        dns=["nameserver 10.0.0.2"],
        storages=[{"driver": "9p", "source": "kataShared", "fstype": "9p", "mount_point": "/m"}],
        sandbox_pidns=True,
        sandbox_id="s1",
        guest_hook_path="/hooks",
        kernel_modules=[{"name": "dummy", "parameters": ["numdummies=2"]}],
    )
    assert request == requests.CreateSandbox(
        sandbox_id="s1",
        hostname="box",
        dns=("nameserver 10.0.0.2",),
        storages=(StorageRequest("9p", "kataShared", "9p", "/m"),),
        sandbox_pidns=True,
        guest_hook_path="/hooks",
        kernel_modules=(requests.KernelModule("dummy", ("numdummies=2",)),),
    )


@GENERATIONS
def test_create_container(codec: Codec, messages: Any) -> None:
    device = {"id": "02/03", "type": "blk", "vm_path": "/dev/vdb", "container_path": "/dev/x"}
    request = decode(
        codec,
        messages,
        "CreateContainer",
        container_id="c1",
        exec_id="c1",
        OCI={"Process": {"Args": ["true"]}},
        devices=[device],
        storages=[{"driver": "blk", "driver_options": ["a"], "options": ["ro"]}],
        sandbox_pidns=True,
    )
    assert isinstance(request, requests.CreateContainer)
    assert request.spec is not None
    assert request.spec["process"]["args"] == ["true"]
    assert request.devices == (DeviceRequest("02/03", "blk", "/dev/vdb", "/dev/x"),)
    assert request.storages == (StorageRequest("blk", "", "", "", options=("ro",), driver_options=("a",)),)
    assert request.sandbox_pidns
    assert not request.agent_pidns


@GENERATIONS
def test_absent_messages_are_none(codec: Codec, messages: Any) -> None:
    container = decode(codec, messages, "CreateContainer", container_id="c1")
    assert isinstance(container, requests.CreateContainer)
    assert container.spec is None
    assert decode(codec, messages, "ExecProcess", container_id="c1") == requests.ExecProcess("c1", "", None)


def test_field_8_of_create_container_is_a_flag_for_one_and_mounts_for_the_other() -> None:
    old = decode(kata1.CODEC, kata1_messages, "CreateContainer", agent_pidns=True)
    assert isinstance(old, requests.CreateContainer)
    assert old.agent_pidns
    new = decode(kata2.CODEC, kata2_messages, "CreateContainer", shared_mounts=[{"name": "m"}])
    assert isinstance(new, requests.CreateContainer)
    assert not new.agent_pidns


def test_a_later_storage_has_a_group() -> None:
    request = decode(
        kata2.CODEC,
        kata2_messages,
        "CreateSandbox",
        storages=[{"driver": "blk", "fs_group": {"group_id": 7, "group_change_policy": 1}, "shared": True}],
    )
    assert isinstance(request, requests.CreateSandbox)
    assert request.storages[0].fs_group == FsGroup(7, only_on_root_mismatch=True)
    assert request.storages[0].shared


@pytest.mark.parametrize(
    ("codec", "messages", "field"),
    [(kata1.CODEC, kata1_messages, "pciPath"), (kata2.CODEC, kata2_messages, "devicePath")],
)
def test_interfaces_there_and_back(codec: Codec, messages: Any, field: str) -> None:
    addresses = [{"family": 0, "address": "10.0.0.2", "mask": "24"}, {"family": 1, "address": "fd00::2"}]
    sent = {"name": "eth0", "hwAddr": "02:aa", "mtu": 1400, "raw_flags": 128, "IPAddresses": addresses}
    request = decode(codec, messages, "UpdateInterface", interface={**sent, field: "02/03"})
    interface = Interface(
        "eth0",
        "02:aa",
        1400,
        (AddressText("10.0.0.2", "24"), AddressText("fd00::2", "")),
        "02/03",
        raw_flags=128,
    )
    assert request == requests.UpdateInterface(interface)
    answer = encode(codec, messages, "UpdateInterface", interface)
    assert answer == messages.Interface(**sent, **{field: "02/03"})


@pytest.mark.parametrize(
    ("codec", "messages", "mac"),
    [(kata1.CODEC, kata1_messages, "02:aa"), (kata2.CODEC, kata2_messages, "02:AA")],
)
def test_listed_macs(codec: Codec, messages: Any, mac: str) -> None:
    answer = encode(codec, messages, "ListInterfaces", [Interface("eth0", "02:aa")])
    assert [each.hwAddr for each in answer.Interfaces] == [mac]


def test_routes_there_and_back() -> None:
    old: dict[str, Any] = {
        "dest": "",
        "gateway": "10.0.0.1",
        "device": "eth0",
        "source": "10.0.0.2",
        "scope": 0,
    }
    request = decode(kata1.CODEC, kata1_messages, "UpdateRoutes", routes={"Routes": [old]})
    route = Route("", "10.0.0.1", "eth0", "10.0.0.2")
    assert request == requests.UpdateRoutes((route,))
    assert encode(kata1.CODEC, kata1_messages, "ListRoutes", [route]).Routes == [kata1_messages.Route(**old)]

    new = {**old, "family": 1, "flags": 4, "mtu": 1300}
    request = decode(kata2.CODEC, kata2_messages, "UpdateRoutes", routes={"Routes": [new]})
    assert request == requests.UpdateRoutes(
        (Route("", "10.0.0.1", "eth0", "10.0.0.2", ipv6=True, flags=4, mtu=1300),)
    )


def test_how_a_later_host_is_told_of_default_routes() -> None:
    listed = [
        Route("", "10.0.0.1", "eth0"),
        Route("", "fd00::1", "eth0", ipv6=True),
        Route("10.1.0.0/16", "10.0.0.1", "eth0"),
        Route("", "", "tun0"),
    ]
    answer = encode(kata2.CODEC, kata2_messages, "ListRoutes", listed)
    assert [(each.dest, each.family) for each in answer.Routes] == [
        ("0.0.0.0", 0),
        ("::", 1),
        ("10.1.0.0/16", 0),
    ]


def test_the_end_of_a_stream() -> None:
    end = requests.StreamData(b"", at_end=True)
    with pytest.raises(CodedError, match=r"^EOF$") as caught:
        kata1.CODEC.encode("ReadStdout", end)
    assert caught.value.code is StatusCode.UNKNOWN
    assert encode(kata2.CODEC, kata2_messages, "ReadStdout", end).data == b""


@GENERATIONS
def test_other_answers(codec: Codec, messages: Any) -> None:
    assert encode(codec, messages, "ReadStdout", requests.StreamData(b"x")).data == b"x"
    assert encode(codec, messages, "ReadStderr", requests.StreamData(b"")).data == b""
    assert encode(codec, messages, "WaitProcess", 137).status == 137
    assert encode(codec, messages, "WriteStdin", 4096).len == 4096
    assert codec.encode("CreateContainer", None) == b""
    health = messages.HealthCheckResponse.FromString(codec.encode("Check", True))
    assert health.status == messages.HealthCheckResponse.SERVING
    versions = messages.VersionCheckResponse.FromString(
        codec.encode("Version", requests.AgentVersions("0.0.1", "9"))
    )
    assert (versions.grpc_version, versions.agent_version) == ("0.0.1", "9")


def test_guest_details() -> None:
    details = requests.GuestDetails("9", True, ("blk",), ("9p",), True, ("seccomp",), 1 << 27, True)
    for codec, messages in ((kata1.CODEC, kata1_messages), (kata2.CODEC, kata2_messages)):
        answer = encode(codec, messages, "GetGuestDetails", details)
        assert (answer.mem_block_size_bytes, answer.support_mem_hotplug_probe) == (1 << 27, True)
        assert (answer.agent_details.version, answer.agent_details.init_daemon) == ("9", True)
        assert list(answer.agent_details.device_handlers) == ["blk"]
        assert list(answer.agent_details.storage_handlers) == ["9p"]
        assert answer.agent_details.supports_seccomp
        if codec is kata2.CODEC:
            assert list(answer.agent_details.extra_features) == ["seccomp"]


@GENERATIONS
@given(payload=st.binary(max_size=200), method=st.sampled_from(sorted(kata1.CODEC.methods(AGENT))))
def test_any_bytes_are_a_request_or_refused(codec: Codec, messages: Any, payload: bytes, method: str) -> None:
    if not codec.has(AGENT, method):
        return
    try:
        assert codec.decode(AGENT, method, payload) is not None
    except InvalidRequest as refusal:
        assert "Request" in str(refusal)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("rules", "method", "error", "code"),
    [
        (kata1.RULES, "WaitProcess", UnknownContainer("c"), None),
        (kata1.RULES, "SignalProcess", UnknownContainer("c"), StatusCode.FAILED_PRECONDITION),
        (kata1.RULES, "SignalProcess", NotFound("e"), None),
        (kata1.RULES, "ReseedRandomDev", InvalidRequest("none"), StatusCode.UNKNOWN),
        (kata2.RULES, "WaitProcess", UnknownContainer("c"), StatusCode.INVALID_ARGUMENT),
        (kata2.RULES, "WaitProcess", NotFound("e"), None),
        (kata2.RULES, "SignalProcess", UnknownContainer("c"), StatusCode.INVALID_ARGUMENT),
        (kata2.RULES, "WriteStdin", UnknownContainer("c"), StatusCode.INTERNAL),
        (kata2.RULES, "WriteStdin", NotFound("e"), StatusCode.INTERNAL),
        (kata2.RULES, "WriteStdin", Unavailable("closed"), StatusCode.INTERNAL),
        (kata2.RULES, "TtyWinResize", Unavailable("no tty"), None),
        (kata2.RULES, "StartContainer", UnknownContainer("c"), StatusCode.INTERNAL),
        (kata2.RULES, "StartContainer", WrongState("running"), None),
        (kata2.RULES, "RemoveContainer", UnknownContainer("c"), StatusCode.INTERNAL),
        (kata2.RULES, "ExecProcess", UnknownContainer("c"), StatusCode.INTERNAL),
        (kata2.RULES, "ExecProcess", AlreadyExists("e"), StatusCode.INTERNAL),
        (kata2.RULES, "CreateContainer", AlreadyExists("c"), None),
        (kata2.RULES, "UpdateInterface", NotFound("mac"), StatusCode.INTERNAL),
    ],
)
def test_codes_of_one_methods_own(rules: Any, method: str, error: Any, code: StatusCode | None) -> None:
    assert rules.recode(method, error) is code
