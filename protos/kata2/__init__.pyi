"""Written by protos/generate.py from the .proto files beside it."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from google.protobuf.internal.containers import (
    MessageMap,
    RepeatedCompositeFieldContainer,
    RepeatedScalarFieldContainer,
    ScalarMap,
)
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

SERVICES: Mapping[str, Mapping[str, tuple[type[Message], type[Message]]]]

class _FSGroupChangePolicyWrapper(EnumTypeWrapper):
    Always: int
    OnRootMismatch: int
FSGroupChangePolicy: _FSGroupChangePolicyWrapper

class _IPFamilyWrapper(EnumTypeWrapper):
    v4: int
    v6: int
IPFamily: _IPFamilyWrapper

class ARPNeighbor(Message):
    @property
    def toIPAddress(self) -> _IPAddress: ...
    device: str
    lladdr: str
    state: int
    flags: int
    def __init__(self, *, toIPAddress: _IPAddress | Mapping[str, Any] | None = ..., device: str = ..., lladdr: str = ..., state: int = ..., flags: int = ...) -> None: ...

_ARPNeighbor: TypeAlias = ARPNeighbor

class ARPNeighbors(Message):
    @property
    def ARPNeighbors(self) -> RepeatedCompositeFieldContainer[_ARPNeighbor]: ...
    def __init__(self, *, ARPNeighbors: Iterable[_ARPNeighbor | Mapping[str, Any]] = ...) -> None: ...

_ARPNeighbors: TypeAlias = ARPNeighbors

class AddARPNeighborsRequest(Message):
    @property
    def neighbors(self) -> _ARPNeighbors: ...
    def __init__(self, *, neighbors: _ARPNeighbors | Mapping[str, Any] | None = ...) -> None: ...

_AddARPNeighborsRequest: TypeAlias = AddARPNeighborsRequest

class AddSwapPathRequest(Message):
    path: str
    def __init__(self, *, path: str = ...) -> None: ...

_AddSwapPathRequest: TypeAlias = AddSwapPathRequest

class AddSwapRequest(Message):
    @property
    def PCIPath(self) -> RepeatedScalarFieldContainer[int]: ...
    def __init__(self, *, PCIPath: Iterable[int] = ...) -> None: ...

_AddSwapRequest: TypeAlias = AddSwapRequest

class AgentDetails(Message):
    version: str
    init_daemon: bool
    @property
    def device_handlers(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def storage_handlers(self) -> RepeatedScalarFieldContainer[str]: ...
    supports_seccomp: bool
    @property
    def extra_features(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(self, *, version: str = ..., init_daemon: bool = ..., device_handlers: Iterable[str] = ..., storage_handlers: Iterable[str] = ..., supports_seccomp: bool = ..., extra_features: Iterable[str] = ...) -> None: ...

_AgentDetails: TypeAlias = AgentDetails

class BlkioStats(Message):
    @property
    def io_service_bytes_recursive(self) -> RepeatedCompositeFieldContainer[_BlkioStatsEntry]: ...
    @property
    def io_serviced_recursive(self) -> RepeatedCompositeFieldContainer[_BlkioStatsEntry]: ...
    @property
    def io_queued_recursive(self) -> RepeatedCompositeFieldContainer[_BlkioStatsEntry]: ...
    @property
    def io_service_time_recursive(self) -> RepeatedCompositeFieldContainer[_BlkioStatsEntry]: ...
    @property
    def io_wait_time_recursive(self) -> RepeatedCompositeFieldContainer[_BlkioStatsEntry]: ...
    @property
    def io_merged_recursive(self) -> RepeatedCompositeFieldContainer[_BlkioStatsEntry]: ...
    @property
    def io_time_recursive(self) -> RepeatedCompositeFieldContainer[_BlkioStatsEntry]: ...
    @property
    def sectors_recursive(self) -> RepeatedCompositeFieldContainer[_BlkioStatsEntry]: ...
    def __init__(self, *, io_service_bytes_recursive: Iterable[_BlkioStatsEntry | Mapping[str, Any]] = ..., io_serviced_recursive: Iterable[_BlkioStatsEntry | Mapping[str, Any]] = ..., io_queued_recursive: Iterable[_BlkioStatsEntry | Mapping[str, Any]] = ..., io_service_time_recursive: Iterable[_BlkioStatsEntry | Mapping[str, Any]] = ..., io_wait_time_recursive: Iterable[_BlkioStatsEntry | Mapping[str, Any]] = ..., io_merged_recursive: Iterable[_BlkioStatsEntry | Mapping[str, Any]] = ..., io_time_recursive: Iterable[_BlkioStatsEntry | Mapping[str, Any]] = ..., sectors_recursive: Iterable[_BlkioStatsEntry | Mapping[str, Any]] = ...) -> None: ...

_BlkioStats: TypeAlias = BlkioStats

class BlkioStatsEntry(Message):
    major: int
    minor: int
    op: str
    value: int
    def __init__(self, *, major: int = ..., minor: int = ..., op: str = ..., value: int = ...) -> None: ...

_BlkioStatsEntry: TypeAlias = BlkioStatsEntry

class Box(Message):
    Height: int
    Width: int
    def __init__(self, *, Height: int = ..., Width: int = ...) -> None: ...

_Box: TypeAlias = Box

class CgroupStats(Message):
    @property
    def cpu_stats(self) -> _CpuStats: ...
    @property
    def memory_stats(self) -> _MemoryStats: ...
    @property
    def pids_stats(self) -> _PidsStats: ...
    @property
    def blkio_stats(self) -> _BlkioStats: ...
    @property
    def hugetlb_stats(self) -> MessageMap[str, _HugetlbStats]: ...
    def __init__(self, *, cpu_stats: _CpuStats | Mapping[str, Any] | None = ..., memory_stats: _MemoryStats | Mapping[str, Any] | None = ..., pids_stats: _PidsStats | Mapping[str, Any] | None = ..., blkio_stats: _BlkioStats | Mapping[str, Any] | None = ..., hugetlb_stats: Mapping[str, _HugetlbStats] = ...) -> None: ...

_CgroupStats: TypeAlias = CgroupStats

class CheckRequest(Message):
    service: str
    def __init__(self, *, service: str = ...) -> None: ...

_CheckRequest: TypeAlias = CheckRequest

class CloseStdinRequest(Message):
    container_id: str
    exec_id: str
    def __init__(self, *, container_id: str = ..., exec_id: str = ...) -> None: ...

_CloseStdinRequest: TypeAlias = CloseStdinRequest

class CopyFileRequest(Message):
    path: str
    file_size: int
    file_mode: int
    dir_mode: int
    uid: int
    gid: int
    offset: int
    data: bytes
    def __init__(self, *, path: str = ..., file_size: int = ..., file_mode: int = ..., dir_mode: int = ..., uid: int = ..., gid: int = ..., offset: int = ..., data: bytes = ...) -> None: ...

_CopyFileRequest: TypeAlias = CopyFileRequest

class CpuStats(Message):
    @property
    def cpu_usage(self) -> _CpuUsage: ...
    @property
    def throttling_data(self) -> _ThrottlingData: ...
    def __init__(self, *, cpu_usage: _CpuUsage | Mapping[str, Any] | None = ..., throttling_data: _ThrottlingData | Mapping[str, Any] | None = ...) -> None: ...

_CpuStats: TypeAlias = CpuStats

class CpuUsage(Message):
    total_usage: int
    @property
    def percpu_usage(self) -> RepeatedScalarFieldContainer[int]: ...
    usage_in_kernelmode: int
    usage_in_usermode: int
    def __init__(self, *, total_usage: int = ..., percpu_usage: Iterable[int] = ..., usage_in_kernelmode: int = ..., usage_in_usermode: int = ...) -> None: ...

_CpuUsage: TypeAlias = CpuUsage

class CreateContainerRequest(Message):
    container_id: str
    exec_id: str
    @property
    def string_user(self) -> _StringUser: ...
    @property
    def devices(self) -> RepeatedCompositeFieldContainer[_Device]: ...
    @property
    def storages(self) -> RepeatedCompositeFieldContainer[_Storage]: ...
    @property
    def OCI(self) -> _Spec: ...
    sandbox_pidns: bool
    @property
    def shared_mounts(self) -> RepeatedCompositeFieldContainer[_SharedMount]: ...
    stdin_port: int
    stdout_port: int
    stderr_port: int
    def __init__(self, *, container_id: str = ..., exec_id: str = ..., string_user: _StringUser | Mapping[str, Any] | None = ..., devices: Iterable[_Device | Mapping[str, Any]] = ..., storages: Iterable[_Storage | Mapping[str, Any]] = ..., OCI: _Spec | Mapping[str, Any] | None = ..., sandbox_pidns: bool = ..., shared_mounts: Iterable[_SharedMount | Mapping[str, Any]] = ..., stdin_port: int = ..., stdout_port: int = ..., stderr_port: int = ...) -> None: ...

_CreateContainerRequest: TypeAlias = CreateContainerRequest

class CreateSandboxRequest(Message):
    hostname: str
    @property
    def dns(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def storages(self) -> RepeatedCompositeFieldContainer[_Storage]: ...
    sandbox_pidns: bool
    sandbox_id: str
    guest_hook_path: str
    @property
    def kernel_modules(self) -> RepeatedCompositeFieldContainer[_KernelModule]: ...
    def __init__(self, *, hostname: str = ..., dns: Iterable[str] = ..., storages: Iterable[_Storage | Mapping[str, Any]] = ..., sandbox_pidns: bool = ..., sandbox_id: str = ..., guest_hook_path: str = ..., kernel_modules: Iterable[_KernelModule | Mapping[str, Any]] = ...) -> None: ...

_CreateSandboxRequest: TypeAlias = CreateSandboxRequest

class DestroySandboxRequest(Message):
    ...
_DestroySandboxRequest: TypeAlias = DestroySandboxRequest

class Device(Message):
    id: str
    type: str
    vm_path: str
    container_path: str
    @property
    def options(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(self, *, id: str = ..., type: str = ..., vm_path: str = ..., container_path: str = ..., options: Iterable[str] = ...) -> None: ...

_Device: TypeAlias = Device

class Empty(Message):
    ...
_Empty: TypeAlias = Empty

class ExecProcessRequest(Message):
    container_id: str
    exec_id: str
    @property
    def string_user(self) -> _StringUser: ...
    @property
    def process(self) -> _Process: ...
    stdin_port: int
    stdout_port: int
    stderr_port: int
    def __init__(self, *, container_id: str = ..., exec_id: str = ..., string_user: _StringUser | Mapping[str, Any] | None = ..., process: _Process | Mapping[str, Any] | None = ..., stdin_port: int = ..., stdout_port: int = ..., stderr_port: int = ...) -> None: ...

_ExecProcessRequest: TypeAlias = ExecProcessRequest

class FSGroup(Message):
    group_id: int
    group_change_policy: int
    def __init__(self, *, group_id: int = ..., group_change_policy: int = ...) -> None: ...

_FSGroup: TypeAlias = FSGroup

class GetDiagnosticDataRequest(Message):
    log_type: str
    container_id: str
    def __init__(self, *, log_type: str = ..., container_id: str = ...) -> None: ...

_GetDiagnosticDataRequest: TypeAlias = GetDiagnosticDataRequest

class GetDiagnosticDataResponse(Message):
    data: str
    def __init__(self, *, data: str = ...) -> None: ...

_GetDiagnosticDataResponse: TypeAlias = GetDiagnosticDataResponse

class GetIPTablesRequest(Message):
    is_ipv6: bool
    def __init__(self, *, is_ipv6: bool = ...) -> None: ...

_GetIPTablesRequest: TypeAlias = GetIPTablesRequest

class GetIPTablesResponse(Message):
    data: bytes
    def __init__(self, *, data: bytes = ...) -> None: ...

_GetIPTablesResponse: TypeAlias = GetIPTablesResponse

class GetMetricsRequest(Message):
    ...
_GetMetricsRequest: TypeAlias = GetMetricsRequest

class GetOOMEventRequest(Message):
    ...
_GetOOMEventRequest: TypeAlias = GetOOMEventRequest

class GuestDetailsRequest(Message):
    mem_block_size: bool
    mem_hotplug_probe: bool
    def __init__(self, *, mem_block_size: bool = ..., mem_hotplug_probe: bool = ...) -> None: ...

_GuestDetailsRequest: TypeAlias = GuestDetailsRequest

class GuestDetailsResponse(Message):
    mem_block_size_bytes: int
    @property
    def agent_details(self) -> _AgentDetails: ...
    support_mem_hotplug_probe: bool
    def __init__(self, *, mem_block_size_bytes: int = ..., agent_details: _AgentDetails | Mapping[str, Any] | None = ..., support_mem_hotplug_probe: bool = ...) -> None: ...

_GuestDetailsResponse: TypeAlias = GuestDetailsResponse

class HealthCheckResponse(Message):
    class _ServingStatusWrapper(EnumTypeWrapper):
        UNKNOWN: int
        SERVING: int
        NOT_SERVING: int
    ServingStatus: _ServingStatusWrapper
    UNKNOWN: int
    SERVING: int
    NOT_SERVING: int
    status: int
    def __init__(self, *, status: int = ...) -> None: ...

_HealthCheckResponse: TypeAlias = HealthCheckResponse

class Hook(Message):
    Path: str
    @property
    def Args(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def Env(self) -> RepeatedScalarFieldContainer[str]: ...
    Timeout: int
    def __init__(self, *, Path: str = ..., Args: Iterable[str] = ..., Env: Iterable[str] = ..., Timeout: int = ...) -> None: ...

_Hook: TypeAlias = Hook

class Hooks(Message):
    @property
    def Prestart(self) -> RepeatedCompositeFieldContainer[_Hook]: ...
    @property
    def Poststart(self) -> RepeatedCompositeFieldContainer[_Hook]: ...
    @property
    def Poststop(self) -> RepeatedCompositeFieldContainer[_Hook]: ...
    @property
    def CreateRuntime(self) -> RepeatedCompositeFieldContainer[_Hook]: ...
    @property
    def CreateContainer(self) -> RepeatedCompositeFieldContainer[_Hook]: ...
    @property
    def StartContainer(self) -> RepeatedCompositeFieldContainer[_Hook]: ...
    def __init__(self, *, Prestart: Iterable[_Hook | Mapping[str, Any]] = ..., Poststart: Iterable[_Hook | Mapping[str, Any]] = ..., Poststop: Iterable[_Hook | Mapping[str, Any]] = ..., CreateRuntime: Iterable[_Hook | Mapping[str, Any]] = ..., CreateContainer: Iterable[_Hook | Mapping[str, Any]] = ..., StartContainer: Iterable[_Hook | Mapping[str, Any]] = ...) -> None: ...

_Hooks: TypeAlias = Hooks

class HugetlbStats(Message):
    usage: int
    max_usage: int
    failcnt: int
    def __init__(self, *, usage: int = ..., max_usage: int = ..., failcnt: int = ...) -> None: ...

_HugetlbStats: TypeAlias = HugetlbStats

class IPAddress(Message):
    family: int
    address: str
    mask: str
    def __init__(self, *, family: int = ..., address: str = ..., mask: str = ...) -> None: ...

_IPAddress: TypeAlias = IPAddress

class Interface(Message):
    device: str
    name: str
    @property
    def IPAddresses(self) -> RepeatedCompositeFieldContainer[_IPAddress]: ...
    mtu: int
    hwAddr: str
    devicePath: str
    type: str
    raw_flags: int
    def __init__(self, *, device: str = ..., name: str = ..., IPAddresses: Iterable[_IPAddress | Mapping[str, Any]] = ..., mtu: int = ..., hwAddr: str = ..., devicePath: str = ..., type: str = ..., raw_flags: int = ...) -> None: ...

_Interface: TypeAlias = Interface

class Interfaces(Message):
    @property
    def Interfaces(self) -> RepeatedCompositeFieldContainer[_Interface]: ...
    def __init__(self, *, Interfaces: Iterable[_Interface | Mapping[str, Any]] = ...) -> None: ...

_Interfaces: TypeAlias = Interfaces

class KernelModule(Message):
    name: str
    @property
    def parameters(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(self, *, name: str = ..., parameters: Iterable[str] = ...) -> None: ...

_KernelModule: TypeAlias = KernelModule

class Linux(Message):
    @property
    def UIDMappings(self) -> RepeatedCompositeFieldContainer[_LinuxIDMapping]: ...
    @property
    def GIDMappings(self) -> RepeatedCompositeFieldContainer[_LinuxIDMapping]: ...
    @property
    def Sysctl(self) -> ScalarMap[str, str]: ...
    @property
    def Resources(self) -> _LinuxResources: ...
    CgroupsPath: str
    @property
    def Namespaces(self) -> RepeatedCompositeFieldContainer[_LinuxNamespace]: ...
    @property
    def Devices(self) -> RepeatedCompositeFieldContainer[_LinuxDevice]: ...
    @property
    def Seccomp(self) -> _LinuxSeccomp: ...
    RootfsPropagation: str
    @property
    def MaskedPaths(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def ReadonlyPaths(self) -> RepeatedScalarFieldContainer[str]: ...
    MountLabel: str
    @property
    def IntelRdt(self) -> _LinuxIntelRdt: ...
    def __init__(self, *, UIDMappings: Iterable[_LinuxIDMapping | Mapping[str, Any]] = ..., GIDMappings: Iterable[_LinuxIDMapping | Mapping[str, Any]] = ..., Sysctl: Mapping[str, str] = ..., Resources: _LinuxResources | Mapping[str, Any] | None = ..., CgroupsPath: str = ..., Namespaces: Iterable[_LinuxNamespace | Mapping[str, Any]] = ..., Devices: Iterable[_LinuxDevice | Mapping[str, Any]] = ..., Seccomp: _LinuxSeccomp | Mapping[str, Any] | None = ..., RootfsPropagation: str = ..., MaskedPaths: Iterable[str] = ..., ReadonlyPaths: Iterable[str] = ..., MountLabel: str = ..., IntelRdt: _LinuxIntelRdt | Mapping[str, Any] | None = ...) -> None: ...

_Linux: TypeAlias = Linux

class LinuxBlockIO(Message):
    Weight: int
    LeafWeight: int
    @property
    def WeightDevice(self) -> RepeatedCompositeFieldContainer[_LinuxWeightDevice]: ...
    @property
    def ThrottleReadBpsDevice(self) -> RepeatedCompositeFieldContainer[_LinuxThrottleDevice]: ...
    @property
    def ThrottleWriteBpsDevice(self) -> RepeatedCompositeFieldContainer[_LinuxThrottleDevice]: ...
    @property
    def ThrottleReadIOPSDevice(self) -> RepeatedCompositeFieldContainer[_LinuxThrottleDevice]: ...
    @property
    def ThrottleWriteIOPSDevice(self) -> RepeatedCompositeFieldContainer[_LinuxThrottleDevice]: ...
    def __init__(self, *, Weight: int = ..., LeafWeight: int = ..., WeightDevice: Iterable[_LinuxWeightDevice | Mapping[str, Any]] = ..., ThrottleReadBpsDevice: Iterable[_LinuxThrottleDevice | Mapping[str, Any]] = ..., ThrottleWriteBpsDevice: Iterable[_LinuxThrottleDevice | Mapping[str, Any]] = ..., ThrottleReadIOPSDevice: Iterable[_LinuxThrottleDevice | Mapping[str, Any]] = ..., ThrottleWriteIOPSDevice: Iterable[_LinuxThrottleDevice | Mapping[str, Any]] = ...) -> None: ...

_LinuxBlockIO: TypeAlias = LinuxBlockIO

class LinuxCPU(Message):
    Shares: int
    Quota: int
    Period: int
    RealtimeRuntime: int
    RealtimePeriod: int
    Cpus: str
    Mems: str
    def __init__(self, *, Shares: int = ..., Quota: int = ..., Period: int = ..., RealtimeRuntime: int = ..., RealtimePeriod: int = ..., Cpus: str = ..., Mems: str = ...) -> None: ...

_LinuxCPU: TypeAlias = LinuxCPU

class LinuxCapabilities(Message):
    @property
    def Bounding(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def Effective(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def Inheritable(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def Permitted(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def Ambient(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(self, *, Bounding: Iterable[str] = ..., Effective: Iterable[str] = ..., Inheritable: Iterable[str] = ..., Permitted: Iterable[str] = ..., Ambient: Iterable[str] = ...) -> None: ...

_LinuxCapabilities: TypeAlias = LinuxCapabilities

class LinuxDevice(Message):
    Path: str
    Type: str
    Major: int
    Minor: int
    FileMode: int
    UID: int
    GID: int
    def __init__(self, *, Path: str = ..., Type: str = ..., Major: int = ..., Minor: int = ..., FileMode: int = ..., UID: int = ..., GID: int = ...) -> None: ...

_LinuxDevice: TypeAlias = LinuxDevice

class LinuxDeviceCgroup(Message):
    Allow: bool
    Type: str
    Major: int
    Minor: int
    Access: str
    def __init__(self, *, Allow: bool = ..., Type: str = ..., Major: int = ..., Minor: int = ..., Access: str = ...) -> None: ...

_LinuxDeviceCgroup: TypeAlias = LinuxDeviceCgroup

class LinuxHugepageLimit(Message):
    Pagesize: str
    Limit: int
    def __init__(self, *, Pagesize: str = ..., Limit: int = ...) -> None: ...

_LinuxHugepageLimit: TypeAlias = LinuxHugepageLimit

class LinuxIDMapping(Message):
    HostID: int
    ContainerID: int
    Size: int
    def __init__(self, *, HostID: int = ..., ContainerID: int = ..., Size: int = ...) -> None: ...

_LinuxIDMapping: TypeAlias = LinuxIDMapping

class LinuxIntelRdt(Message):
    L3CacheSchema: str
    def __init__(self, *, L3CacheSchema: str = ...) -> None: ...

_LinuxIntelRdt: TypeAlias = LinuxIntelRdt

class LinuxInterfacePriority(Message):
    Name: str
    Priority: int
    def __init__(self, *, Name: str = ..., Priority: int = ...) -> None: ...

_LinuxInterfacePriority: TypeAlias = LinuxInterfacePriority

class LinuxMemory(Message):
    Limit: int
    Reservation: int
    Swap: int
    Kernel: int
    KernelTCP: int
    Swappiness: int
    DisableOOMKiller: bool
    def __init__(self, *, Limit: int = ..., Reservation: int = ..., Swap: int = ..., Kernel: int = ..., KernelTCP: int = ..., Swappiness: int = ..., DisableOOMKiller: bool = ...) -> None: ...

_LinuxMemory: TypeAlias = LinuxMemory

class LinuxNamespace(Message):
    Type: str
    Path: str
    def __init__(self, *, Type: str = ..., Path: str = ...) -> None: ...

_LinuxNamespace: TypeAlias = LinuxNamespace

class LinuxNetwork(Message):
    ClassID: int
    @property
    def Priorities(self) -> RepeatedCompositeFieldContainer[_LinuxInterfacePriority]: ...
    def __init__(self, *, ClassID: int = ..., Priorities: Iterable[_LinuxInterfacePriority | Mapping[str, Any]] = ...) -> None: ...

_LinuxNetwork: TypeAlias = LinuxNetwork

class LinuxPids(Message):
    Limit: int
    def __init__(self, *, Limit: int = ...) -> None: ...

_LinuxPids: TypeAlias = LinuxPids

class LinuxResources(Message):
    @property
    def Devices(self) -> RepeatedCompositeFieldContainer[_LinuxDeviceCgroup]: ...
    @property
    def Memory(self) -> _LinuxMemory: ...
    @property
    def CPU(self) -> _LinuxCPU: ...
    @property
    def Pids(self) -> _LinuxPids: ...
    @property
    def BlockIO(self) -> _LinuxBlockIO: ...
    @property
    def HugepageLimits(self) -> RepeatedCompositeFieldContainer[_LinuxHugepageLimit]: ...
    @property
    def Network(self) -> _LinuxNetwork: ...
    def __init__(self, *, Devices: Iterable[_LinuxDeviceCgroup | Mapping[str, Any]] = ..., Memory: _LinuxMemory | Mapping[str, Any] | None = ..., CPU: _LinuxCPU | Mapping[str, Any] | None = ..., Pids: _LinuxPids | Mapping[str, Any] | None = ..., BlockIO: _LinuxBlockIO | Mapping[str, Any] | None = ..., HugepageLimits: Iterable[_LinuxHugepageLimit | Mapping[str, Any]] = ..., Network: _LinuxNetwork | Mapping[str, Any] | None = ...) -> None: ...

_LinuxResources: TypeAlias = LinuxResources

class LinuxSeccomp(Message):
    DefaultAction: str
    @property
    def Architectures(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def Flags(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def Syscalls(self) -> RepeatedCompositeFieldContainer[_LinuxSyscall]: ...
    def __init__(self, *, DefaultAction: str = ..., Architectures: Iterable[str] = ..., Flags: Iterable[str] = ..., Syscalls: Iterable[_LinuxSyscall | Mapping[str, Any]] = ...) -> None: ...

_LinuxSeccomp: TypeAlias = LinuxSeccomp

class LinuxSeccompArg(Message):
    Index: int
    Value: int
    ValueTwo: int
    Op: str
    def __init__(self, *, Index: int = ..., Value: int = ..., ValueTwo: int = ..., Op: str = ...) -> None: ...

_LinuxSeccompArg: TypeAlias = LinuxSeccompArg

class LinuxSyscall(Message):
    @property
    def Names(self) -> RepeatedScalarFieldContainer[str]: ...
    Action: str
    errnoret: int
    @property
    def Args(self) -> RepeatedCompositeFieldContainer[_LinuxSeccompArg]: ...
    def __init__(self, *, Names: Iterable[str] = ..., Action: str = ..., errnoret: int = ..., Args: Iterable[_LinuxSeccompArg | Mapping[str, Any]] = ...) -> None: ...

_LinuxSyscall: TypeAlias = LinuxSyscall

class LinuxThrottleDevice(Message):
    Major: int
    Minor: int
    Rate: int
    def __init__(self, *, Major: int = ..., Minor: int = ..., Rate: int = ...) -> None: ...

_LinuxThrottleDevice: TypeAlias = LinuxThrottleDevice

class LinuxWeightDevice(Message):
    Major: int
    Minor: int
    Weight: int
    LeafWeight: int
    def __init__(self, *, Major: int = ..., Minor: int = ..., Weight: int = ..., LeafWeight: int = ...) -> None: ...

_LinuxWeightDevice: TypeAlias = LinuxWeightDevice

class ListInterfacesRequest(Message):
    ...
_ListInterfacesRequest: TypeAlias = ListInterfacesRequest

class ListRoutesRequest(Message):
    ...
_ListRoutesRequest: TypeAlias = ListRoutesRequest

class MemAgentCompactConfig(Message):
    disabled: bool
    period_secs: int
    period_psi_percent_limit: int
    compact_psi_percent_limit: int
    compact_sec_max: int
    compact_order: int
    compact_threshold: int
    compact_force_times: int
    def __init__(self, *, disabled: bool = ..., period_secs: int = ..., period_psi_percent_limit: int = ..., compact_psi_percent_limit: int = ..., compact_sec_max: int = ..., compact_order: int = ..., compact_threshold: int = ..., compact_force_times: int = ...) -> None: ...

_MemAgentCompactConfig: TypeAlias = MemAgentCompactConfig

class MemAgentMemcgConfig(Message):
    disabled: bool
    swap: bool
    swappiness_max: int
    period_secs: int
    period_psi_percent_limit: int
    eviction_psi_percent_limit: int
    eviction_run_aging_count_min: int
    def __init__(self, *, disabled: bool = ..., swap: bool = ..., swappiness_max: int = ..., period_secs: int = ..., period_psi_percent_limit: int = ..., eviction_psi_percent_limit: int = ..., eviction_run_aging_count_min: int = ...) -> None: ...

_MemAgentMemcgConfig: TypeAlias = MemAgentMemcgConfig

class MemHotplugByProbeRequest(Message):
    @property
    def memHotplugProbeAddr(self) -> RepeatedScalarFieldContainer[int]: ...
    def __init__(self, *, memHotplugProbeAddr: Iterable[int] = ...) -> None: ...

_MemHotplugByProbeRequest: TypeAlias = MemHotplugByProbeRequest

class MemoryData(Message):
    usage: int
    max_usage: int
    failcnt: int
    limit: int
    def __init__(self, *, usage: int = ..., max_usage: int = ..., failcnt: int = ..., limit: int = ...) -> None: ...

_MemoryData: TypeAlias = MemoryData

class MemoryStats(Message):
    cache: int
    @property
    def usage(self) -> _MemoryData: ...
    @property
    def swap_usage(self) -> _MemoryData: ...
    @property
    def kernel_usage(self) -> _MemoryData: ...
    use_hierarchy: bool
    @property
    def stats(self) -> ScalarMap[str, int]: ...
    def __init__(self, *, cache: int = ..., usage: _MemoryData | Mapping[str, Any] | None = ..., swap_usage: _MemoryData | Mapping[str, Any] | None = ..., kernel_usage: _MemoryData | Mapping[str, Any] | None = ..., use_hierarchy: bool = ..., stats: Mapping[str, int] = ...) -> None: ...

_MemoryStats: TypeAlias = MemoryStats

class Metrics(Message):
    metrics: str
    def __init__(self, *, metrics: str = ...) -> None: ...

_Metrics: TypeAlias = Metrics

class Mount(Message):
    destination: str
    source: str
    type: str
    @property
    def options(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(self, *, destination: str = ..., source: str = ..., type: str = ..., options: Iterable[str] = ...) -> None: ...

_Mount: TypeAlias = Mount

class NetworkStats(Message):
    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int
    def __init__(self, *, name: str = ..., rx_bytes: int = ..., rx_packets: int = ..., rx_errors: int = ..., rx_dropped: int = ..., tx_bytes: int = ..., tx_packets: int = ..., tx_errors: int = ..., tx_dropped: int = ...) -> None: ...

_NetworkStats: TypeAlias = NetworkStats

class OOMEvent(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

_OOMEvent: TypeAlias = OOMEvent

class OnlineCPUMemRequest(Message):
    wait: bool
    nb_cpus: int
    cpu_only: bool
    def __init__(self, *, wait: bool = ..., nb_cpus: int = ..., cpu_only: bool = ...) -> None: ...

_OnlineCPUMemRequest: TypeAlias = OnlineCPUMemRequest

class POSIXRlimit(Message):
    Type: str
    Hard: int
    Soft: int
    def __init__(self, *, Type: str = ..., Hard: int = ..., Soft: int = ...) -> None: ...

_POSIXRlimit: TypeAlias = POSIXRlimit

class PauseContainerRequest(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

_PauseContainerRequest: TypeAlias = PauseContainerRequest

class PidsStats(Message):
    current: int
    limit: int
    def __init__(self, *, current: int = ..., limit: int = ...) -> None: ...

_PidsStats: TypeAlias = PidsStats

class Process(Message):
    Terminal: bool
    @property
    def ConsoleSize(self) -> _Box: ...
    @property
    def User(self) -> _User: ...
    @property
    def Args(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def Env(self) -> RepeatedScalarFieldContainer[str]: ...
    Cwd: str
    @property
    def Capabilities(self) -> _LinuxCapabilities: ...
    @property
    def Rlimits(self) -> RepeatedCompositeFieldContainer[_POSIXRlimit]: ...
    NoNewPrivileges: bool
    ApparmorProfile: str
    OOMScoreAdj: int
    SelinuxLabel: str
    def __init__(self, *, Terminal: bool = ..., ConsoleSize: _Box | Mapping[str, Any] | None = ..., User: _User | Mapping[str, Any] | None = ..., Args: Iterable[str] = ..., Env: Iterable[str] = ..., Cwd: str = ..., Capabilities: _LinuxCapabilities | Mapping[str, Any] | None = ..., Rlimits: Iterable[_POSIXRlimit | Mapping[str, Any]] = ..., NoNewPrivileges: bool = ..., ApparmorProfile: str = ..., OOMScoreAdj: int = ..., SelinuxLabel: str = ...) -> None: ...

_Process: TypeAlias = Process

class ReadStreamRequest(Message):
    container_id: str
    exec_id: str
    len: int
    def __init__(self, *, container_id: str = ..., exec_id: str = ..., len: int = ...) -> None: ...

_ReadStreamRequest: TypeAlias = ReadStreamRequest

class ReadStreamResponse(Message):
    data: bytes
    def __init__(self, *, data: bytes = ...) -> None: ...

_ReadStreamResponse: TypeAlias = ReadStreamResponse

class RemoveContainerRequest(Message):
    container_id: str
    timeout: int
    def __init__(self, *, container_id: str = ..., timeout: int = ...) -> None: ...

_RemoveContainerRequest: TypeAlias = RemoveContainerRequest

class RemoveStaleVirtiofsShareMountsRequest(Message):
    ...
_RemoveStaleVirtiofsShareMountsRequest: TypeAlias = RemoveStaleVirtiofsShareMountsRequest

class ReseedRandomDevRequest(Message):
    data: bytes
    def __init__(self, *, data: bytes = ...) -> None: ...

_ReseedRandomDevRequest: TypeAlias = ReseedRandomDevRequest

class ResizeVolumeRequest(Message):
    volume_guest_path: str
    size: int
    def __init__(self, *, volume_guest_path: str = ..., size: int = ...) -> None: ...

_ResizeVolumeRequest: TypeAlias = ResizeVolumeRequest

class ResumeContainerRequest(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

_ResumeContainerRequest: TypeAlias = ResumeContainerRequest

class Root(Message):
    Path: str
    Readonly: bool
    def __init__(self, *, Path: str = ..., Readonly: bool = ...) -> None: ...

_Root: TypeAlias = Root

class Route(Message):
    dest: str
    gateway: str
    device: str
    source: str
    scope: int
    family: int
    flags: int
    mtu: int
    def __init__(self, *, dest: str = ..., gateway: str = ..., device: str = ..., source: str = ..., scope: int = ..., family: int = ..., flags: int = ..., mtu: int = ...) -> None: ...

_Route: TypeAlias = Route

class Routes(Message):
    @property
    def Routes(self) -> RepeatedCompositeFieldContainer[_Route]: ...
    def __init__(self, *, Routes: Iterable[_Route | Mapping[str, Any]] = ...) -> None: ...

_Routes: TypeAlias = Routes

class SetGuestDateTimeRequest(Message):
    Sec: int
    Usec: int
    def __init__(self, *, Sec: int = ..., Usec: int = ...) -> None: ...

_SetGuestDateTimeRequest: TypeAlias = SetGuestDateTimeRequest

class SetIPTablesRequest(Message):
    is_ipv6: bool
    data: bytes
    def __init__(self, *, is_ipv6: bool = ..., data: bytes = ...) -> None: ...

_SetIPTablesRequest: TypeAlias = SetIPTablesRequest

class SetIPTablesResponse(Message):
    data: bytes
    def __init__(self, *, data: bytes = ...) -> None: ...

_SetIPTablesResponse: TypeAlias = SetIPTablesResponse

class SetPolicyRequest(Message):
    policy: str
    def __init__(self, *, policy: str = ...) -> None: ...

_SetPolicyRequest: TypeAlias = SetPolicyRequest

class SharedMount(Message):
    name: str
    src_ctr: str
    src_path: str
    dst_ctr: str
    dst_path: str
    def __init__(self, *, name: str = ..., src_ctr: str = ..., src_path: str = ..., dst_ctr: str = ..., dst_path: str = ...) -> None: ...

_SharedMount: TypeAlias = SharedMount

class SignalProcessRequest(Message):
    container_id: str
    exec_id: str
    signal: int
    def __init__(self, *, container_id: str = ..., exec_id: str = ..., signal: int = ...) -> None: ...

_SignalProcessRequest: TypeAlias = SignalProcessRequest

class Solaris(Message):
    dummy: str
    def __init__(self, *, dummy: str = ...) -> None: ...

_Solaris: TypeAlias = Solaris

class Spec(Message):
    Version: str
    @property
    def Process(self) -> _Process: ...
    @property
    def Root(self) -> _Root: ...
    Hostname: str
    @property
    def Mounts(self) -> RepeatedCompositeFieldContainer[_Mount]: ...
    @property
    def Hooks(self) -> _Hooks: ...
    @property
    def Annotations(self) -> ScalarMap[str, str]: ...
    @property
    def Linux(self) -> _Linux: ...
    @property
    def Solaris(self) -> _Solaris: ...
    @property
    def Windows(self) -> _Windows: ...
    def __init__(self, *, Version: str = ..., Process: _Process | Mapping[str, Any] | None = ..., Root: _Root | Mapping[str, Any] | None = ..., Hostname: str = ..., Mounts: Iterable[_Mount | Mapping[str, Any]] = ..., Hooks: _Hooks | Mapping[str, Any] | None = ..., Annotations: Mapping[str, str] = ..., Linux: _Linux | Mapping[str, Any] | None = ..., Solaris: _Solaris | Mapping[str, Any] | None = ..., Windows: _Windows | Mapping[str, Any] | None = ...) -> None: ...

_Spec: TypeAlias = Spec

class StartContainerRequest(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

_StartContainerRequest: TypeAlias = StartContainerRequest

class StatsContainerRequest(Message):
    container_id: str
    def __init__(self, *, container_id: str = ...) -> None: ...

_StatsContainerRequest: TypeAlias = StatsContainerRequest

class StatsContainerResponse(Message):
    @property
    def cgroup_stats(self) -> _CgroupStats: ...
    @property
    def network_stats(self) -> RepeatedCompositeFieldContainer[_NetworkStats]: ...
    def __init__(self, *, cgroup_stats: _CgroupStats | Mapping[str, Any] | None = ..., network_stats: Iterable[_NetworkStats | Mapping[str, Any]] = ...) -> None: ...

_StatsContainerResponse: TypeAlias = StatsContainerResponse

class Storage(Message):
    driver: str
    @property
    def driver_options(self) -> RepeatedScalarFieldContainer[str]: ...
    source: str
    fstype: str
    @property
    def options(self) -> RepeatedScalarFieldContainer[str]: ...
    mount_point: str
    @property
    def fs_group(self) -> _FSGroup: ...
    shared: bool
    def __init__(self, *, driver: str = ..., driver_options: Iterable[str] = ..., source: str = ..., fstype: str = ..., options: Iterable[str] = ..., mount_point: str = ..., fs_group: _FSGroup | Mapping[str, Any] | None = ..., shared: bool = ...) -> None: ...

_Storage: TypeAlias = Storage

class StringUser(Message):
    uid: str
    gid: str
    @property
    def additionalGids(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(self, *, uid: str = ..., gid: str = ..., additionalGids: Iterable[str] = ...) -> None: ...

_StringUser: TypeAlias = StringUser

class ThrottlingData(Message):
    periods: int
    throttled_periods: int
    throttled_time: int
    def __init__(self, *, periods: int = ..., throttled_periods: int = ..., throttled_time: int = ...) -> None: ...

_ThrottlingData: TypeAlias = ThrottlingData

class TtyWinResizeRequest(Message):
    container_id: str
    exec_id: str
    row: int
    column: int
    def __init__(self, *, container_id: str = ..., exec_id: str = ..., row: int = ..., column: int = ...) -> None: ...

_TtyWinResizeRequest: TypeAlias = TtyWinResizeRequest

class UpdateContainerRequest(Message):
    container_id: str
    @property
    def resources(self) -> _LinuxResources: ...
    def __init__(self, *, container_id: str = ..., resources: _LinuxResources | Mapping[str, Any] | None = ...) -> None: ...

_UpdateContainerRequest: TypeAlias = UpdateContainerRequest

class UpdateEphemeralMountsRequest(Message):
    @property
    def storages(self) -> RepeatedCompositeFieldContainer[_Storage]: ...
    def __init__(self, *, storages: Iterable[_Storage | Mapping[str, Any]] = ...) -> None: ...

_UpdateEphemeralMountsRequest: TypeAlias = UpdateEphemeralMountsRequest

class UpdateInterfaceRequest(Message):
    @property
    def interface(self) -> _Interface: ...
    def __init__(self, *, interface: _Interface | Mapping[str, Any] | None = ...) -> None: ...

_UpdateInterfaceRequest: TypeAlias = UpdateInterfaceRequest

class UpdateRoutesRequest(Message):
    @property
    def routes(self) -> _Routes: ...
    def __init__(self, *, routes: _Routes | Mapping[str, Any] | None = ...) -> None: ...

_UpdateRoutesRequest: TypeAlias = UpdateRoutesRequest

class User(Message):
    UID: int
    GID: int
    @property
    def AdditionalGids(self) -> RepeatedScalarFieldContainer[int]: ...
    Username: str
    def __init__(self, *, UID: int = ..., GID: int = ..., AdditionalGids: Iterable[int] = ..., Username: str = ...) -> None: ...

_User: TypeAlias = User

class VersionCheckResponse(Message):
    grpc_version: str
    agent_version: str
    def __init__(self, *, grpc_version: str = ..., agent_version: str = ...) -> None: ...

_VersionCheckResponse: TypeAlias = VersionCheckResponse

class VolumeCondition(Message):
    abnormal: bool
    message: str
    def __init__(self, *, abnormal: bool = ..., message: str = ...) -> None: ...

_VolumeCondition: TypeAlias = VolumeCondition

class VolumeStatsRequest(Message):
    volume_guest_path: str
    def __init__(self, *, volume_guest_path: str = ...) -> None: ...

_VolumeStatsRequest: TypeAlias = VolumeStatsRequest

class VolumeStatsResponse(Message):
    @property
    def usage(self) -> RepeatedCompositeFieldContainer[_VolumeUsage]: ...
    @property
    def volume_condition(self) -> _VolumeCondition: ...
    def __init__(self, *, usage: Iterable[_VolumeUsage | Mapping[str, Any]] = ..., volume_condition: _VolumeCondition | Mapping[str, Any] | None = ...) -> None: ...

_VolumeStatsResponse: TypeAlias = VolumeStatsResponse

class VolumeUsage(Message):
    class _UnitWrapper(EnumTypeWrapper):
        UNKNOWN: int
        BYTES: int
        INODES: int
    Unit: _UnitWrapper
    UNKNOWN: int
    BYTES: int
    INODES: int
    available: int
    total: int
    used: int
    unit: int
    def __init__(self, *, available: int = ..., total: int = ..., used: int = ..., unit: int = ...) -> None: ...

_VolumeUsage: TypeAlias = VolumeUsage

class WaitProcessRequest(Message):
    container_id: str
    exec_id: str
    def __init__(self, *, container_id: str = ..., exec_id: str = ...) -> None: ...

_WaitProcessRequest: TypeAlias = WaitProcessRequest

class WaitProcessResponse(Message):
    status: int
    def __init__(self, *, status: int = ...) -> None: ...

_WaitProcessResponse: TypeAlias = WaitProcessResponse

class Windows(Message):
    dummy: str
    def __init__(self, *, dummy: str = ...) -> None: ...

_Windows: TypeAlias = Windows

class WriteStreamRequest(Message):
    container_id: str
    exec_id: str
    data: bytes
    def __init__(self, *, container_id: str = ..., exec_id: str = ..., data: bytes = ...) -> None: ...

_WriteStreamRequest: TypeAlias = WriteStreamRequest

class WriteStreamResponse(Message):
    len: int
    def __init__(self, *, len: int = ...) -> None: ...

_WriteStreamResponse: TypeAlias = WriteStreamResponse
