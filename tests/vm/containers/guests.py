"""A guest with a sandbox in it: a host on either wire, a shell to look around, and what it looks like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from host.client import Wire
from host.create_sandbox import create_sandbox_request
from host.demo_rootfs import make_busybox_rootfs
from host.share import GUEST_SHARED_DIR
from host.vm.disks import Disk, PluggedDisk
from tests.scripted_host import ScriptedHost
from tests.vm.guest_shell import GuestShell
from tests.vm.machines import BootedVm, booted, short_directory

WIRES = get_args(Wire)
SANDBOX_HOSTNAME = "sandbox"
BOX = "box"  # the id of a test's container

# One line a fact. What the share holds is the host's affair: find does not go in there. Of a mount the
# two numbers that count up with every mount are left out.
_STATE = """
cut -d ' ' -f 3- /proc/self/mountinfo | sed 's/^/mount /'
find /run/kata-containers /run/kata-agent /run/sandbox-ns -xdev 2> /dev/null | sed 's/^/file /'
find /sys/fs/cgroup -type d | sed 's/^/cgroup /'
cat /proc/1/task/*/children 2> /dev/null | xargs -n 1 echo child
grep -l '^State:.*zombie' /proc/[0-9]*/status 2> /dev/null | sed 's/^/zombie /'
true
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """A running sandbox whose containers have their root filesystem, busybox, in the share."""

    machine: BootedVm
    shell: GuestShell
    hosts: dict[Wire, ScriptedHost]

    async def state(self) -> set[str]:
        """What a container may not leave behind: mounts, files, cgroups, the agent's children, zombies."""
        return set((await self.shell.run(_STATE)).splitlines())

    def share(self, name: str) -> tuple[Path, str]:
        """A new directory in the share: where the host has it, and where the guest does."""
        directory = self.machine.share / name
        directory.mkdir()
        return directory, GUEST_SHARED_DIR + name


@asynccontextmanager
async def running(
    host: ScriptedHost, *command: str, container_id: str = BOX, **fields: Any
) -> AsyncIterator[None]:
    """A container that has been started; it is removed after the block, however that ends."""
    await host.create(container_id, *command, **fields)
    try:
        await host.call("StartContainer", container_id=container_id)
        yield
    finally:
        await host.remove(container_id)


async def run_to_end(host: ScriptedHost, *command: str, **fields: Any) -> tuple[int, bytes]:
    """Run a container that ends by itself; its status and what it wrote."""
    container_id = fields.get("container_id", BOX)
    async with running(host, *command, **fields):
        output = await host.output(container_id)
        return await host.wait(container_id), output


async def run_inside(host: ScriptedHost, script: str, *, exec_id: str) -> tuple[int, bytes]:
    """Run a shell's `script` in the container BOX; its status, and what it wrote and complained."""
    process = host.process("sh", "-c", f"exec 2>&1; {script}")
    await host.call("ExecProcess", container_id=BOX, exec_id=exec_id, process=process)
    output = await host.output(BOX, exec_id)
    return await host.wait(BOX, exec_id), output


async def pid_of_box(guest: Guest) -> int:
    """The pid in the guest of the first process of the container BOX, under cgroup v2."""
    return int(await guest.shell.run(f"head -n 1 /sys/fs/cgroup/{BOX}/cgroup.procs"))


@asynccontextmanager
async def guest_machine(name: str, count_boot: Callable[[], None], **figures: Any) -> AsyncIterator[BootedVm]:
    """Boot a machine whose share holds a root filesystem; `figures` as `booted` takes them."""
    async with (
        short_directory(name) as directory,
        booted(directory, count_boot, shared_fs="9p", **figures) as machine,
    ):
        make_busybox_rootfs(machine.share / "rootfs")
        yield machine


@asynccontextmanager
async def sandbox_in(machine: BootedVm) -> AsyncIterator[Guest]:
    """Make a sandbox in `machine`, with a connection of each wire."""
    rootfs = Path(GUEST_SHARED_DIR, "rootfs")
    request = create_sandbox_request(
        machine.ttrpc.messages, machine.vm.config.name, shared_fs="9p", hostname=SANDBOX_HOSTNAME
    )
    await machine.ttrpc.call("CreateSandbox", request)
    async with AsyncExitStack() as stack:
        shell = await stack.enter_async_context(await machine.shell())
        hosts = {}
        for wire in WIRES:
            client = await stack.enter_async_context(await machine.client(wire))
            hosts[wire] = ScriptedHost(client, rootfs)
            # The first of their kind: a gRPC server's socket and directories for crun are made, and stay.
            # Under another id than the tests', so that what they leave is not there before.
            first = f"first-{wire}"
            spec = hosts[wire].spec("true", container_id=first, Terminal=True)
            assert await run_to_end(hosts[wire], container_id=first, spec=spec) == (0, b"")
        yield Guest(machine, shell, hosts)


@asynccontextmanager
async def blank_disk(guest: Guest) -> AsyncIterator[PluggedDisk]:
    """A disk of zeros, which the guest calls vdb, for as long as the block runs."""
    image = guest.machine.share / "blank.img"
    image.write_bytes(bytes(1 << 20))
    plugged = await guest.machine.vm.plug_block(Disk("blank", image), "virtio-blk")
    try:
        await guest.shell.run("until [ -e /sys/block/vdb/dev ]; do sleep 0.05; done")
        yield plugged
    finally:
        await guest.machine.vm.unplug("blank")


def allow(spec: Any, *capabilities: str) -> None:
    """Give the container of `spec` these capabilities."""
    for kind in ("Bounding", "Effective", "Permitted"):
        getattr(spec.Process.Capabilities, kind).extend(capabilities)
