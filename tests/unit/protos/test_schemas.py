"""Both schemas: what is generated is fresh, the pools are apart, and the wires' conflicts hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

from protos import kata1, kata2
from protos.generate import GENERATIONS, outputs

PROTOS = Path(__file__).resolve().parents[3] / "protos"

# A request of 1.x with one seccomp rule, written by hand: CreateContainerRequest.OCI (6) .
# Spec.Linux (8) . Linux.Seccomp (8) . DefaultAction (1) "D", and field 3: a LinuxSyscall with
# Names (1) "read", Action (2) "A" and, as field 3, Args with Index (1) 1.
SECCOMP_OF_1 = bytes.fromhex("32 16 42 14 42 12  0a 01 44  1a 0d  0a 04 72656164  12 01 41  1a 02 0801")


@pytest.mark.parametrize("generation", GENERATIONS)
def test_generated_files_are_fresh(generation: str) -> None:
    stale = [
        path.name for path, content in outputs(PROTOS / generation).items() if path.read_bytes() != content
    ]
    assert not stale, "run protos/generate.py"


def test_the_check_sees_a_stale_file(tmp_path: Path) -> None:
    (tmp_path / "one.proto").write_text('syntax = "proto3"; package grpc; message One { string a = 1; }')
    before = outputs(tmp_path)
    (tmp_path / "one.proto").write_text('syntax = "proto3"; package grpc; message One { string a = 2; }')
    assert before[tmp_path / "descriptors.binpb"] != outputs(tmp_path)[tmp_path / "descriptors.binpb"]


def test_every_call_is_there() -> None:
    ours = {name: set(schema.SERVICES["grpc.AgentService"]) for name, schema in (("1", kata1), ("2", kata2))}
    assert (len(ours["1"]), len(ours["2"]), len(ours["1"] | ours["2"])) == (32, 42, 45)
    assert ours["1"] - ours["2"] == {"ListProcesses", "StartTracing", "StopTracing"}
    for schema in (kata1, kata2):
        assert set(schema.SERVICES["grpc.Health"]) == {"Check", "Version"}
        request, response = schema.SERVICES["grpc.AgentService"]["ReadStdout"]
        assert (request.DESCRIPTOR.full_name, response.DESCRIPTOR.full_name) == (
            "grpc.ReadStreamRequest",
            "grpc.ReadStreamResponse",
        )


def test_the_pools_are_apart() -> None:
    assert kata1.Storage.DESCRIPTOR.full_name == kata2.Storage.DESCRIPTOR.full_name == "grpc.Storage"
    assert "fs_group" in kata2.Storage.DESCRIPTOR.fields_by_name
    assert "fs_group" not in kata1.Storage.DESCRIPTOR.fields_by_name
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("grpc.Storage")


def test_names_are_flat() -> None:
    assert kata1.Interface(pciPath="02/01").SerializeToString() == b"\x32\x0502/01"
    assert kata2.Interface(devicePath="02/01").SerializeToString() == b"\x32\x0502/01"
    assert kata2.Empty().SerializeToString() == b""
    assert kata2.IPFamily.v6 == 1
    assert kata2.FSGroupChangePolicy.OnRootMismatch == 1
    assert kata2.HealthCheckResponse.SERVING == 1
    assert kata2.Storage is kata2.Storage
    assert "CreateContainerRequest" in dir(kata1)
    with pytest.raises(AttributeError, match="kata1 has no message or enumeration 'SetPolicyRequest'"):
        _ = kata1.SetPolicyRequest  # type: ignore[attr-defined] # that is the point


def test_a_seccomp_rule_of_1_is_read_by_its_own_schema() -> None:
    seccomp = kata1.CreateContainerRequest.FromString(SECCOMP_OF_1).OCI.Linux.Seccomp
    assert seccomp.DefaultAction == "D"
    (rule,) = seccomp.Syscalls
    assert (list(rule.Names), rule.Action, rule.Args[0].Index) == (["read"], "A", 1)


def test_the_other_schema_reads_it_without_complaint_and_wrongly() -> None:
    seccomp = kata2.CreateContainerRequest.FromString(SECCOMP_OF_1).OCI.Linux.Seccomp
    assert not seccomp.Syscalls
    assert list(seccomp.Flags) == ["\n\x04read\x12\x01A\x1a\x02\x08\x01"]


def test_a_seccomp_rule_of_2_survives_its_own_schema() -> None:
    rule = kata2.LinuxSyscall(Names=["read"], Action="A", errnoret=0, Args=[kata2.LinuxSeccompArg(Index=1)])
    back = kata2.LinuxSyscall.FromString(rule.SerializeToString())
    assert back.HasField("errnoret")
    assert back.Args[0].Index == 1
    assert not kata2.LinuxSyscall().HasField("errnoret")


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (kata1.CreateContainerRequest(agent_pidns=True), "4001"),
        (
            kata2.CreateContainerRequest(shared_mounts=[kata2.SharedMount(name="m")], stdin_port=5),
            "42030a016d4805",
        ),
        (kata2.ExecProcessRequest(stdin_port=1, stdout_port=2, stderr_port=3), "280130023803"),
        (
            kata2.Storage(fs_group=kata2.FSGroup(group_id=7, group_change_policy=1), shared=True),
            "3a04100718014001",
        ),
        (kata2.Route(family=1, flags=2, mtu=3), "300138024003"),
        (kata2.ReseedRandomDevRequest(data=b"x"), "120178"),
        (kata1.ReseedRandomDevRequest(data=b"x"), "120178"),
        (kata2.MemHotplugByProbeRequest(memHotplugProbeAddr=[1, 2]), "0a020102"),
        (kata2.AddSwapRequest(PCIPath=[1, 2]), "0a020102"),
        (kata2.WaitProcessResponse(status=-1), "08ffffffffffffffffff01"),
        (kata2.MemAgentCompactConfig(disabled=False), "0800"),
        (kata2.Hooks(StartContainer=[kata2.Hook(Timeout=1)]), "32022001"),
    ],
    ids=lambda each: type(each).__name__ if not isinstance(each, str) else "",
)
def test_golden_bytes(message: object, data: str) -> None:
    assert message.SerializeToString() == bytes.fromhex(data)  # type: ignore[attr-defined] # a class made at run time


def test_compare_finds_a_difference(tmp_path: Path) -> None:
    for path in (PROTOS / "kata2").glob("*.proto"):
        (tmp_path / path.name).write_text(path.read_text().replace("uint32 len = 3;", "uint32 len = 4;"))
    compare = [sys.executable, str(PROTOS / "compare.py"), "kata2"]
    result = subprocess.run([*compare, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "only ours:   field grpc.ReadStreamRequest.len = 3" in result.stdout
    result = subprocess.run([*compare, str(PROTOS / "kata2")], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout


def test_importing_a_schema_loads_no_protobuf() -> None:
    script = "import sys, protos.kata1, protos.kata2; sys.exit('google.protobuf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
