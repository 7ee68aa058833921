"""What CreateContainer does before the OCI runtime: devices, storages, namespaces, the spec's edits.

Each step that changes the guest pushes its undo, so a failure later on takes it back.

Source for what is edited: kata-containers/agent grpc.go CreateContainer, kata-containers
src/agent/src/rpc.rs do_create_container.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from agent.containers import oci_spec
from agent.containers.container import Container, ContainerPlan
from agent.containers.cpu_list import cpu_numbers
from agent.containers.oci_spec import OciSpec
from agent.devices.request import resolve_devices
from agent.errors import InvalidRequest, KernelRefused, WrongState
from agent.linux.blocking import run_blocking
from agent.sandbox.sandbox import Member, PidNamespace
from agent.service.agent import Agent
from agent.service.requests import CreateContainer
from agent.service.rules import Rules
from agent.storage.apply import attach_storages

_ONLINE_CPUS = "/sys/devices/system/cpu/online"


def check_spec(request: CreateContainer, rules: Rules) -> OciSpec:
    """The spec of `request`, if it has what the agent's edits build upon.

    Raises InvalidRequest, WrongState.
    """
    spec = request.spec
    if spec is None:
        raise InvalidRequest("the request has no OCI spec")
    if "process" not in spec:
        raise InvalidRequest("the OCI spec has no process")
    if rules.refuses_pid_namespace and any(
        namespace["type"] == "pid" for namespace in spec["linux"].get("namespaces", ())
    ):
        raise WrongState("Unexpected PID namespace received in the OCI spec: the agent chooses it")
    return spec


async def prepare(
    agent: Agent,
    request: CreateContainer,
    spec: OciSpec,
    rules: Rules,
    member: Member[Container],
    *,
    undo_on_failure: AsyncExitStack,
) -> ContainerPlan:
    """Bring devices and storages, and make `spec` say what this guest is like.

    What ends with the container is undone by `member.teardown`. `undo_on_failure` is for what must
    outlive it once it has been created.

    Raises InvalidRequest, Unsupported, DeviceTimeout, WrongState, KernelRefused.
    """
    _join_namespaces(agent, request, spec, rules, member)
    oci_spec.validate_spec(spec)
    updates = await resolve_devices(request.devices, agent.devices)
    oci_spec.apply_device_updates(spec, updates)
    await attach_storages(
        request.storages,
        guest=agent.guest,
        registry=agent.registry,
        ledger=agent.sandbox.storages,
        stack=member.teardown,
        bundle=f"{agent.runtime_paths.bundles}/{request.container_id}",
    )
    for major, minor in guest_root_devices():
        oci_spec.deny_root_device(spec, major, minor)
    _add_guest_hooks(agent, spec)
    _fit_cpuset(spec)
    await _set_net_sysctls(spec, undo_on_failure)
    exec_id = request.exec_id if rules.init_answers_to_exec_id else request.container_id
    return ContainerPlan(
        container_id=request.container_id,
        init_exec_id=exec_id,
        spec=spec,
        no_pivot=agent.root_is_initramfs(),
        pipe_size=agent.config.container_pipe_size,
        launch_timeout_s=agent.config.launch_timeout_s,
    )


def guest_root_devices(root: str = "/", sysfs_root: str = "/sys") -> list[tuple[int, int]]:
    """(major, minor) of the block device that backs `root`, and of the disk it is a partition of.

    A container that may make nodes must reach neither (CVE-2020-2023). Empty for a root in memory.
    A few bytes of sysfs, read on the loop.
    """
    number = os.stat(root).st_dev
    if os.major(number) == 0:
        return []
    devices = [(os.major(number), os.minor(number))]
    block = Path(sysfs_root, "dev/block", f"{os.major(number)}:{os.minor(number)}")
    if (block / "partition").exists():
        major, _, minor = (block.resolve().parent / "dev").read_text().strip().partition(":")
        devices.append((int(major), int(minor)))
    return devices


def _join_namespaces(
    agent: Agent, request: CreateContainer, spec: OciSpec, rules: Rules, member: Member[Container]
) -> None:
    """The sandbox's ipc and uts namespaces, if there are any, and the pid namespace by the rules."""
    for kind, path in agent.sandbox.namespaces.items():
        oci_spec.set_namespace(spec, kind, path)
    if agent.sandbox.hostname and "uts" in agent.sandbox.namespaces:
        # The namespace has its name. A container's own would become that of every other one too.
        spec.pop("hostname", None)
    choice = PidNamespace(of_agent=True)
    if not request.agent_pidns:
        choice = agent.sandbox.choose_pid_namespace(
            member, shared=request.sandbox_pidns, strict=rules.shared_pid_namespace_must_exist
        )
    oci_spec.drop_namespace(spec, "pid")
    if not choice.of_agent:
        oci_spec.set_namespace(spec, "pid", choice.path or "")


def _add_guest_hooks(agent: Agent, spec: OciSpec) -> None:
    """The guest image's own hooks, after those of the spec, each list by itself."""
    for kind, hooks in agent.sandbox.guest_hooks.items():
        if hooks:
            spec.setdefault("hooks", {}).setdefault(kind, []).extend(hooks)


def _fit_cpuset(spec: OciSpec) -> None:
    """A set with a CPU that this guest lacks becomes the set of all that are online (as in 1.x)."""
    cpu = spec["linux"].get("resources", {}).get("cpu", {})
    if "cpus" in cpu:
        cpu["cpus"] = online_if_lacking(cpu["cpus"])


def online_if_lacking(cpus: str) -> str:
    """The list `cpus`, or that of all online CPUs if `cpus` names one that is not. Raises InvalidRequest.

    A few bytes of sysfs, read on the loop.
    """
    online = Path(_ONLINE_CPUS).read_text().strip()
    return cpus if cpu_numbers(cpus) <= cpu_numbers(online) else online


async def _set_net_sysctls(spec: OciSpec, undo: AsyncExitStack) -> None:
    """Set the `net.` sysctls in the guest's network, which all containers share, and take them out of
    the spec.

    They stay when the container goes, since others may have come to rely on them.
    """
    for name, value in oci_spec.move_net_sysctls(spec).items():
        path = Path("/proc/sys", name.replace(".", "/"))
        try:
            old = await run_blocking(_exchange, path, value, undo=partial(_exchange, path))
        except OSError as error:
            raise KernelRefused.from_oserror(f"sysctl {name}={value}", error) from error
        undo.push_async_callback(run_blocking, _exchange, path, old)


def _exchange(path: Path, value: str) -> str:
    """Write `value`, return what was there. Blocks. Raises OSError."""
    old = path.read_text()
    path.write_text(value)
    return old
