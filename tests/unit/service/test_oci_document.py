"""The OCI document of a request: names, presence, and the same from both generations' bytes."""

from __future__ import annotations

from typing import Any

import pytest

from agent.service.oci_document import OCI_VERSION, process_document, spec_document
from protos import kata1, kata2

GENERATIONS = pytest.mark.parametrize("messages", [kata1, kata2], ids=["kata1", "kata2"])


def full_spec(messages: Any) -> Any:
    """A `Spec` in which every section says something."""
    spec = messages.Spec(Version="1.0.1", Hostname="box", Annotations={"a.b/c": "d"})
    spec.Root.Path, spec.Root.Readonly = "/run/kata-containers/c/rootfs", True
    process = spec.Process
    process.Terminal = True
    process.ConsoleSize.Height = 24
    process.User.UID, process.User.AdditionalGids[:] = 1000, [4, 24]
    process.Args[:], process.Env[:], process.Cwd = ["sh", "-c", "exit 3"], ["A=B"], "/tmp"
    process.Capabilities.Bounding[:] = ["CAP_KILL"]
    process.Rlimits.add(Type="RLIMIT_NOFILE", Hard=2**64 - 1, Soft=1024)
    process.NoNewPrivileges, process.OOMScoreAdj, process.SelinuxLabel = True, -5, "u:r:t:s0"
    spec.Mounts.add(destination="/proc", source="proc", type="proc", options=["nosuid"])
    spec.Hooks.Prestart.add(Path="/hook", Args=["hook", "x"], Env=["E=1"], Timeout=7)
    linux = spec.Linux
    linux.UIDMappings.add(HostID=0, ContainerID=100, Size=65536)
    linux.Sysctl["kernel.msgmax"] = "8192"
    linux.CgroupsPath = "/kata/c"
    linux.Namespaces.add(Type="mount")
    linux.Namespaces.add(Type="ipc", Path="/run/sandbox-ns/ipc")
    linux.Devices.add(Path="/dev/x", Type="b", Major=8, Minor=0, FileMode=0o60660, UID=0, GID=6)
    linux.RootfsPropagation = "rprivate"
    linux.MaskedPaths[:], linux.ReadonlyPaths[:] = ["/proc/kcore"], ["/proc/sys"]
    linux.IntelRdt.L3CacheSchema = "L3:0=f"
    fill_resources(linux.Resources)
    fill_seccomp(linux.Seccomp)
    return spec


def fill_resources(resources: Any) -> None:
    resources.Devices.add(Allow=False, Access="rwm")
    resources.Devices.add(Allow=True, Type="b", Major=8, Minor=0, Access="rw")
    resources.Memory.Limit, resources.Memory.Swap, resources.Memory.DisableOOMKiller = 1 << 30, -1, True
    resources.Memory.KernelTCP = 4096
    resources.CPU.Shares, resources.CPU.Quota, resources.CPU.Period = 512, -1, 100000
    resources.CPU.RealtimeRuntime, resources.CPU.Cpus = 950, "0-1"
    resources.Pids.Limit = 100
    resources.BlockIO.Weight = 10
    resources.BlockIO.WeightDevice.add(Major=8, Minor=0, Weight=5)
    resources.BlockIO.ThrottleReadIOPSDevice.add(Major=8, Minor=0, Rate=77)
    resources.HugepageLimits.add(Pagesize="2MB", Limit=0)
    resources.Network.ClassID = 3
    resources.Network.Priorities.add(Name="eth0", Priority=2)


def fill_seccomp(seccomp: Any) -> None:
    seccomp.DefaultAction = "SCMP_ACT_ERRNO"
    seccomp.Architectures[:] = ["SCMP_ARCH_X86_64"]
    rule = seccomp.Syscalls.add(Names=["clone"], Action="SCMP_ACT_ALLOW")
    rule.Args.add(Index=0, Value=2114060288, ValueTwo=0, Op="SCMP_CMP_MASKED_EQ")


EXPECTED_PROCESS = {
    "terminal": True,
    "consoleSize": {"height": 24, "width": 0},
    "user": {"uid": 1000, "gid": 0, "additionalGids": [4, 24]},
    "args": ["sh", "-c", "exit 3"],
    "env": ["A=B"],
    "cwd": "/tmp",
    "capabilities": {"bounding": ["CAP_KILL"]},
    "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 2**64 - 1, "soft": 1024}],
    "noNewPrivileges": True,
    "oomScoreAdj": -5,
    "selinuxLabel": "u:r:t:s0",
}
EXPECTED_RESOURCES = {
    "devices": [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "rw"},
    ],
    "memory": {"limit": 1 << 30, "swap": -1, "disableOOMKiller": True, "kernelTCP": 4096},
    "cpu": {"shares": 512, "quota": -1, "period": 100000, "realtimeRuntime": 950, "cpus": "0-1"},
    "pids": {"limit": 100},
    "blockIO": {
        "weight": 10,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 5}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 77}],
    },
    "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
    "network": {"classID": 3, "priorities": [{"name": "eth0", "priority": 2}]},
}
EXPECTED_SPEC = {
    "ociVersion": "1.0.1",
    "process": EXPECTED_PROCESS,
    "root": {"path": "/run/kata-containers/c/rootfs", "readonly": True},
    "hostname": "box",
    "mounts": [{"destination": "/proc", "source": "proc", "type": "proc", "options": ["nosuid"]}],
    "hooks": {"prestart": [{"path": "/hook", "args": ["hook", "x"], "env": ["E=1"], "timeout": 7}]},
    "annotations": {"a.b/c": "d"},
    "linux": {
        "uidMappings": [{"hostID": 0, "containerID": 100, "size": 65536}],
        "sysctl": {"kernel.msgmax": "8192"},
        "resources": EXPECTED_RESOURCES,
        "cgroupsPath": "/kata/c",
        "namespaces": [{"type": "mount"}, {"type": "ipc", "path": "/run/sandbox-ns/ipc"}],
        "devices": [
            {
                "path": "/dev/x",
                "type": "b",
                "major": 8,
                "minor": 0,
                "fileMode": 0o660,
                "uid": 0,
                "gid": 6,
            }
        ],
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {
                    "names": ["clone"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
                }
            ],
        },
        "rootfsPropagation": "rprivate",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "intelRdt": {"l3CacheSchema": "L3:0=f"},
    },
}


@GENERATIONS
def test_every_section_of_a_spec(messages: Any) -> None:
    received = messages.Spec.FromString(full_spec(messages).SerializeToString())
    assert spec_document(received) == EXPECTED_SPEC


@GENERATIONS
def test_what_is_not_given_is_left_out(messages: Any) -> None:
    spec = messages.Spec()
    spec.Process.Args[:] = ["true"]
    assert spec_document(spec) == {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "cwd": "/",
            "noNewPrivileges": False,
            "oomScoreAdj": 0,
        },
        "linux": {},
    }


def test_what_only_the_later_generation_has() -> None:
    spec = kata2.Spec()
    spec.Hooks.CreateRuntime.add(Path="/r")
    spec.Hooks.StartContainer.add(Path="/s")
    spec.Linux.Seccomp.Flags[:] = ["SECCOMP_FILTER_FLAG_LOG"]
    spec.Linux.Seccomp.Syscalls.add(Names=["open"], Action="SCMP_ACT_ERRNO", errnoret=0)
    document = spec_document(spec)
    assert document["hooks"] == {"createRuntime": [{"path": "/r"}], "startContainer": [{"path": "/s"}]}
    assert document["linux"]["seccomp"] == {
        "defaultAction": "",
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{"names": ["open"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}],
    }


@GENERATIONS
@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ({"Allow": False, "Access": "rwm"}, {"allow": False, "access": "rwm"}),
        ({"Type": "c", "Major": -1, "Minor": -1}, {"allow": False, "type": "c"}),
        ({"Type": "c", "Major": 0, "Minor": 0}, {"allow": False, "type": "c"}),
        ({"Type": "c", "Major": 136, "Minor": -1}, {"allow": False, "type": "c", "major": 136}),
        ({"Type": "b", "Major": 8, "Minor": 0}, {"allow": False, "type": "b", "major": 8, "minor": 0}),
    ],
)
def test_device_rules(messages: Any, sent: dict[str, Any], written: dict[str, Any]) -> None:
    spec = messages.Spec()
    spec.Linux.Resources.Devices.add(**sent)
    assert spec_document(spec)["linux"]["resources"]["devices"] == [written]


@GENERATIONS
def test_limits_of_zero_are_not_given_and_those_of_minus_one_are(messages: Any) -> None:
    spec = messages.Spec()
    resources = spec.Linux.Resources
    resources.Memory.Limit, resources.Memory.Swappiness, resources.CPU.Quota = 0, 0, -1
    resources.Pids.Limit = 0
    assert spec_document(spec)["linux"]["resources"] == {"cpu": {"quota": -1}}


@GENERATIONS
def test_a_process_of_its_own(messages: Any) -> None:
    process = messages.Process(Args=["ls"], Cwd="/", Terminal=True)
    assert process_document(process) == {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["ls"],
        "cwd": "/",
        "noNewPrivileges": False,
        "oomScoreAdj": 0,
    }
