"""Messages to requests, and answers to messages, where both generations agree.

The two schemas share most names; a function here reads a message of either. What differs is passed
in by `kata1` and `kata2`, which complete the two tables at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from agent.devices.request import DeviceRequest
from agent.errors import InvalidRequest
from agent.network.addresses import AddressText
from agent.network.interfaces import Interface
from agent.network.neighbours import Neighbour
from agent.service import requests
from agent.service.oci_document import process_document, resources_document, spec_document
from agent.storage.handler import FsGroup, StorageRequest

Message: TypeAlias = Any  # a message of either generation: the two have no type in common
Schema: TypeAlias = Any  # the module protos.kata1 or protos.kata2
Answer: TypeAlias = Any  # what a method's handler returns; each method's encoder knows its type

Decoder = Callable[[Message], object]
Encoder = Callable[[Answer], Message]

_NO_PORTS = requests.StreamPorts()
_FAMILY_V6 = 1  # types.IPFamily


class Codec:
    """Bytes to request and answer to bytes, for one generation."""

    def __init__(
        self, schema: Schema, decoders: Mapping[str, Decoder], encoders: Mapping[str, Encoder]
    ) -> None:
        self._decoders = decoders
        self._encoders = encoders
        self._services = schema.SERVICES

    def has(self, service: str, method: str) -> bool:
        """Whether this generation's schema has the method."""
        return method in self._services.get(service, ())

    def methods(self, service: str) -> frozenset[str]:
        """The methods that can be decoded."""
        return frozenset(self._decoders) & frozenset(self._services.get(service, ()))

    def decode(self, service: str, method: str, payload: bytes) -> object:
        """The request in `payload`. Raises InvalidRequest if the bytes are no message of this method."""
        return self.read(method, self.parse(service, method, payload))

    def parse(self, service: str, method: str, payload: bytes) -> Message:
        """The message in `payload`. Raises InvalidRequest if the bytes are none of this method."""
        from google.protobuf.message import DecodeError  # 38 ms, paid with the first message

        request_class, _ = self._services[service][method]
        try:
            return request_class.FromString(payload)
        except DecodeError as error:
            raise InvalidRequest(f"the payload is no {request_class.DESCRIPTOR.name}: {error}") from error

    def read(self, method: str, message: Message) -> object:
        """The request that `message` is. Raises InvalidRequest."""
        return self._decoders[method](message)

    def encode(self, method: str, answer: object) -> bytes:
        """The bytes of `answer`; a method that answers Empty gives None, which is no bytes at all.

        Raises CodedError where a generation tells an answer as an error.
        """
        if answer is None:
            return b""
        message: bytes = self._encoders[method](answer).SerializeToString()
        return message


def no_arguments(_message: Message) -> requests.NoArguments:
    """A request whose fields do not matter."""
    return requests.NoArguments()


def storage(message: Message, *, fs_group: FsGroup | None = None, shared: bool = False) -> StorageRequest:
    """A `Storage`."""
    return StorageRequest(
        driver=message.driver,
        source=message.source,
        fstype=message.fstype,
        mount_point=message.mount_point,
        options=tuple(message.options),
        driver_options=tuple(message.driver_options),
        fs_group=fs_group,
        shared=shared,
    )


def device(message: Message) -> DeviceRequest:
    """A `Device`."""
    return DeviceRequest(
        id=message.id,
        type=message.type,
        vm_path=message.vm_path,
        container_path=message.container_path,
        options=tuple(message.options),
    )


def interface(message: Message, *, device_path: str) -> Interface:
    """A `types.Interface`; the field of its PCI path has another name in each generation."""
    return Interface(
        name=message.name,
        hw_addr=message.hwAddr,
        mtu=message.mtu,
        addresses=tuple(AddressText(each.address, each.mask) for each in message.IPAddresses),
        device_path=device_path,
        device=message.device,
        type=message.type,
        raw_flags=message.raw_flags,
    )


def create_sandbox(message: Message, storages: Sequence[StorageRequest]) -> requests.CreateSandbox:
    """A `CreateSandboxRequest`."""
    return requests.CreateSandbox(
        sandbox_id=message.sandbox_id,
        hostname=message.hostname,
        dns=tuple(message.dns),
        storages=tuple(storages),
        sandbox_pidns=message.sandbox_pidns,
        guest_hook_path=message.guest_hook_path,
        kernel_modules=tuple(
            requests.KernelModule(each.name, tuple(each.parameters)) for each in message.kernel_modules
        ),
    )


def create_container(
    message: Message,
    storages: Sequence[StorageRequest],
    *,
    agent_pidns: bool = False,
    shared_mounts: Sequence[requests.SharedMount] = (),
    ports: requests.StreamPorts = _NO_PORTS,
) -> requests.CreateContainer:
    """A `CreateContainerRequest`."""
    return requests.CreateContainer(
        container_id=message.container_id,
        exec_id=message.exec_id,
        spec=spec_document(message.OCI) if message.HasField("OCI") else None,
        devices=tuple(device(each) for each in message.devices),
        storages=tuple(storages),
        sandbox_pidns=message.sandbox_pidns,
        agent_pidns=agent_pidns,
        shared_mounts=tuple(shared_mounts),
        ports=ports,
    )


def _update_container(message: Message) -> requests.UpdateContainer:
    resources = resources_document(message.resources) if message.HasField("resources") else None
    return requests.UpdateContainer(message.container_id, resources)


def exec_process(message: Message, ports: requests.StreamPorts = _NO_PORTS) -> requests.ExecProcess:
    """An `ExecProcessRequest`."""
    process = process_document(message.process) if message.HasField("process") else None
    return requests.ExecProcess(message.container_id, message.exec_id, process, ports)


def _process_name(message: Message) -> requests.ProcessName:
    return requests.ProcessName(message.container_id, message.exec_id)


def _read_stream(message: Message) -> requests.ReadStream:
    return requests.ReadStream(message.container_id, message.exec_id, message.len)


def _add_neighbours(message: Message) -> requests.AddNeighbours:
    if not message.HasField("neighbors"):
        return requests.AddNeighbours(None)
    return requests.AddNeighbours(
        tuple(
            Neighbour(each.toIPAddress.address, each.device, each.lladdr, each.state, each.flags)
            for each in message.neighbors.ARPNeighbors
        )
    )


def fill_interface(message: Message, answer: Interface, *, device_path_field: str) -> None:
    """Put `answer` into an `Interface` message."""
    message.name = answer.name
    message.hwAddr = answer.hw_addr
    message.mtu = answer.mtu
    message.device = answer.device
    message.type = answer.type
    message.raw_flags = answer.raw_flags
    setattr(message, device_path_field, answer.device_path)
    for each in answer.addresses:
        family = _FAMILY_V6 if ":" in each.address else 0
        message.IPAddresses.add(family=family, address=each.address, mask=each.mask)


def encode_guest_details(schema: Schema, answer: requests.GuestDetails) -> Message:
    """A `GuestDetailsResponse` with what both generations have."""
    return schema.GuestDetailsResponse(
        mem_block_size_bytes=answer.memory_block_size_bytes,
        support_mem_hotplug_probe=answer.memory_probe,
        agent_details=schema.AgentDetails(
            version=answer.agent_version,
            init_daemon=answer.is_init,
            device_handlers=answer.device_handlers,
            storage_handlers=answer.storage_handlers,
            supports_seccomp=answer.supports_seccomp,
        ),
    )


def _copy_file(message: Message) -> requests.CopyFile:
    return requests.CopyFile(
        path=message.path,
        file_size=message.file_size,
        file_mode=message.file_mode,
        dir_mode=message.dir_mode,
        uid=message.uid,
        gid=message.gid,
        offset=message.offset,
        data=message.data,
    )


SHARED_DECODERS: Mapping[str, Decoder] = {
    "Check": no_arguments,
    "Version": no_arguments,
    "DestroySandbox": no_arguments,
    "ListInterfaces": no_arguments,
    "ListRoutes": no_arguments,
    "StartContainer": lambda m: requests.StartContainer(m.container_id),
    "RemoveContainer": lambda m: requests.RemoveContainer(m.container_id, m.timeout),
    "ExecProcess": exec_process,
    "SignalProcess": lambda m: requests.SignalProcess(m.container_id, m.exec_id, m.signal),
    "WaitProcess": _process_name,
    "WriteStdin": lambda m: requests.WriteStdin(m.container_id, m.exec_id, m.data),
    "ReadStdout": _read_stream,
    "ReadStderr": _read_stream,
    "CloseStdin": _process_name,
    "TtyWinResize": lambda m: requests.TtyWinResize(m.container_id, m.exec_id, m.row, m.column),
    "AddARPNeighbors": _add_neighbours,
    "GetGuestDetails": lambda m: requests.GetGuestDetails(m.mem_block_size, m.mem_hotplug_probe),
    "UpdateContainer": _update_container,
    "StatsContainer": lambda m: requests.ContainerName(m.container_id),
    "PauseContainer": lambda m: requests.ContainerName(m.container_id),
    "ResumeContainer": lambda m: requests.ContainerName(m.container_id),
    "GetOOMEvent": no_arguments,
    "ReseedRandomDev": lambda m: requests.ReseedRandomDevice(m.data),
    "SetGuestDateTime": lambda m: requests.SetGuestDateTime(m.Sec, m.Usec),
    "CopyFile": _copy_file,
    "OnlineCPUMem": lambda m: requests.OnlineCpusAndMemory(m.wait, m.nb_cpus, m.cpu_only),
    "MemHotplugByProbe": lambda m: requests.ProbeMemory(tuple(m.memHotplugProbeAddr)),
    "SetPolicy": lambda m: requests.SetPolicy(m.policy),
}


def shared_encoders(schema: Schema) -> dict[str, Encoder]:
    """The encoders of the answers that are the same in both generations, making messages of `schema`."""
    return {
        "Check": lambda _answer: schema.HealthCheckResponse(status="SERVING"),
        "Version": lambda answer: schema.VersionCheckResponse(
            grpc_version=answer.api, agent_version=answer.agent
        ),
        "GetOOMEvent": lambda answer: schema.OOMEvent(container_id=answer),
        "WaitProcess": lambda answer: schema.WaitProcessResponse(status=answer),
        "WriteStdin": lambda answer: schema.WriteStreamResponse(len=answer),
    }
