"""What a host may ask, and what it is answered: the same for both generations of the API.

The fields are those of the messages on the wire; which bytes they are is known to `kata1` and `kata2`
alone. A text that the host left out is empty, as proto3 has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.containers.oci_spec import OciProcess, OciSpec
from agent.devices.request import DeviceRequest
from agent.network.interfaces import Interface
from agent.network.neighbours import Neighbour
from agent.network.routes import Route
from agent.storage.handler import StorageRequest


@dataclass(frozen=True, slots=True)
class NoArguments:
    """A request without fields that matter."""


@dataclass(frozen=True, slots=True)
class KernelModule:
    """A module to load, with its parameters ("name=value")."""

    name: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    """`sandbox_pidns`: all containers share one pid namespace, a pause process's."""

    sandbox_id: str
    hostname: str = ""
    dns: tuple[str, ...] = ()
    storages: tuple[StorageRequest, ...] = ()
    sandbox_pidns: bool = False
    guest_hook_path: str = ""
    kernel_modules: tuple[KernelModule, ...] = ()


@dataclass(frozen=True, slots=True)
class SharedMount:
    """A mount of another container's, by the name Kubernetes gives that one, to be had in this one."""

    source_container: str
    source_path: str
    path: str


@dataclass(frozen=True, slots=True)
class StreamPorts:
    """The host's ports of the connections that carry a process's streams; 0 for none."""

    stdin: int = 0
    stdout: int = 0
    stderr: int = 0


@dataclass(frozen=True, slots=True)
class CreateContainer:
    """`spec` is None if the host sent none; `agent_pidns` puts it into the agent's pid namespace (1.x)."""

    container_id: str
    exec_id: str
    spec: OciSpec | None
    devices: tuple[DeviceRequest, ...] = ()
    storages: tuple[StorageRequest, ...] = ()
    sandbox_pidns: bool = False
    agent_pidns: bool = False
    shared_mounts: tuple[SharedMount, ...] = ()
    ports: StreamPorts = StreamPorts()


@dataclass(frozen=True, slots=True)
class ContainerName:
    """A container: what StatsContainer, PauseContainer and ResumeContainer are about."""

    container_id: str


@dataclass(frozen=True, slots=True)
class UpdateContainer:
    """New limits, as the OCI document's linux.resources; None if the host sent none."""

    container_id: str
    resources: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ListProcesses:
    """`format` is "json" or "table"; `arguments` are options of ps(1)."""

    container_id: str
    format: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GetDiagnosticData:
    """The only `log_type` is "termination_log"."""

    log_type: str
    container_id: str


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Let a created container's command run."""

    container_id: str


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """`timeout_s`: give up waiting after so many seconds, 0 for never."""

    container_id: str
    timeout_s: int = 0


@dataclass(frozen=True, slots=True)
class ExecProcess:
    """Run one more process in a container; `process` is None if the host sent none."""

    container_id: str
    exec_id: str
    process: OciProcess | None
    ports: StreamPorts = StreamPorts()


@dataclass(frozen=True, slots=True)
class SignalProcess:
    """Send `signal` to one process, or to all of the container, by the generation's rule."""

    container_id: str
    exec_id: str
    signal: int


@dataclass(frozen=True, slots=True)
class ProcessName:
    """One process of a container: what WaitProcess and CloseStdin are about."""

    container_id: str
    exec_id: str


@dataclass(frozen=True, slots=True)
class WriteStdin:
    """Bytes for a process's standard input."""

    container_id: str
    exec_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ReadStream:
    """Read at most `length` bytes of a process's output."""

    container_id: str
    exec_id: str
    length: int


@dataclass(frozen=True, slots=True)
class TtyWinResize:
    """Give a process's terminal a size in character cells."""

    container_id: str
    exec_id: str
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class UpdateInterface:
    """`interface` is None if the host sent none."""

    interface: Interface | None


@dataclass(frozen=True, slots=True)
class UpdateRoutes:
    """`routes` is None if the host sent none, which is not the same as an empty table."""

    routes: tuple[Route, ...] | None


@dataclass(frozen=True, slots=True)
class AddNeighbours:
    """`neighbours` is None if the host sent none."""

    neighbours: tuple[Neighbour, ...] | None


@dataclass(frozen=True, slots=True)
class GetGuestDetails:
    """Which of the costlier facts are wanted."""

    memory_block_size: bool = False
    memory_probe: bool = False


@dataclass(frozen=True, slots=True)
class ReseedRandomDevice:
    """Bytes to mix into the guest's random number generator."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SetGuestDateTime:
    """Seconds since the epoch, and microseconds."""

    seconds: int
    microseconds: int


@dataclass(frozen=True, slots=True)
class CopyFile:
    """A piece of a file, a directory, or a link whose target is `data`; `file_mode` says which."""

    path: str
    file_size: int
    file_mode: int
    dir_mode: int
    uid: int
    gid: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class OnlineCpusAndMemory:
    """Put plugged CPUs, and memory unless `cpu_only`, to use; `cpus` is meant by the generation's rule."""

    wait: bool
    cpus: int
    cpu_only: bool


@dataclass(frozen=True, slots=True)
class ProbeMemory:
    """The physical addresses at which memory has been plugged in."""

    addresses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AddSwap:
    """Swap to the disk in these PCI slots, the way from the root bus."""

    pci_path: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AddSwapPath:
    """Swap to the disk, or file, at `path`."""

    path: str


@dataclass(frozen=True, slots=True)
class GetVolumeStats:
    """How full the filesystem at `path` is."""

    path: str


@dataclass(frozen=True, slots=True)
class ResizeVolume:
    """Let the filesystem at `path` grow to `size_bytes`, or with 0 to all its disk has."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class UpdateEphemeralMounts:
    """Mounted storages of driver `ephemeral`, with the options they are to have from now on."""

    storages: tuple[StorageRequest, ...]


@dataclass(frozen=True, slots=True)
class GetIpTables:
    """All rules of one family."""

    ipv6: bool


@dataclass(frozen=True, slots=True)
class SetIpTables:
    """Rules as iptables-save writes them."""

    ipv6: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """The text of a policy, in Rego."""

    policy: str


@dataclass(frozen=True, slots=True)
class StreamData:
    """What was read. Only with `at_end` does an empty `data` mean the end of the stream."""

    data: bytes
    at_end: bool = False


@dataclass(frozen=True, slots=True)
class GuestDetails:
    """`memory_block_size_bytes` is 0 if it was not asked for or the kernel has no memory hot-plug."""

    agent_version: str
    is_init: bool
    device_handlers: tuple[str, ...]
    storage_handlers: tuple[str, ...]
    supports_seccomp: bool
    extra_features: tuple[str, ...] = ()
    memory_block_size_bytes: int = 0
    memory_probe: bool = False


@dataclass(frozen=True, slots=True)
class AgentVersions:
    """The version of the API, and of this agent."""

    api: str
    agent: str
