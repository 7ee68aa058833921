"""Booted machines for the tests: one boot serves a module, and nothing of it may be left."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.client import AgentClient, Wire, connect
from host.vm.config import GuestImage, VmConfig
from host.vm.disks import Disk
from host.vm.programs import PROJECT_ROOT
from host.vm.qemu import Vm
from tests.vm.guest_shell import GuestShell

# Emulated and on a busy machine; an idle one needs a quarter of it.
AGENT_TIMEOUT_S = 60.0
CONSOLE_PORT = 1026
_CONSOLE_LINES = 40
_CONSOLE_WORDS = ("agent.debug_console", f"agent.debug_console_vport={CONSOLE_PORT}")


def guest_directory() -> Path:
    """The guest image under test: `$PYKATA_GUEST_DIR`, else the project's build."""
    return Path(os.environ.get("PYKATA_GUEST_DIR") or PROJECT_ROOT / "build" / "guest")


@dataclass(slots=True)
class BootedVm:
    """A machine whose agent answers, and the host directory that it shares."""

    vm: Vm
    share: Path
    ttrpc: AgentClient

    async def client(self, wire: Wire) -> AgentClient:
        """A new connection to the agent; close it after use."""
        return await self.vm.while_running(
            connect(self.vm.agent_address, wire=wire, timeout_s=AGENT_TIMEOUT_S)
        )

    async def shell(self) -> GuestShell:
        """A new shell in the guest itself; close it after use."""
        return await GuestShell.open(self.vm.address(CONSOLE_PORT))


@asynccontextmanager
async def booted(directory: Path, count_boot: Callable[[], None], **figures: Any) -> AsyncIterator[BootedVm]:
    """Boot a machine in `directory`, wait for its agent, and check afterwards that nothing is left.

    `figures` are fields of VmConfig; `form` chooses the guest image's form.
    """
    share = directory / "share"
    share.mkdir()
    form = figures.pop("form", "image")
    words = (*_CONSOLE_WORDS, *figures.pop("kernel_params", ()))
    config = VmConfig(
        name=directory.name,
        run_dir=directory / "vm",
        image=GuestImage(guest_directory(), form),
        share_dir=share,
        kernel_params=words,
        **figures,
    )
    vm = Vm(config)
    try:
        count_boot()
        await vm.start()
        pids = vm.pids()
        connecting = connect(vm.agent_address, wire="ttrpc", timeout_s=AGENT_TIMEOUT_S)
        async with await vm.while_running(connecting) as ttrpc:
            await ttrpc.call("Check", ttrpc.messages.CheckRequest(), timeout_s=AGENT_TIMEOUT_S)
            yield BootedVm(vm, share, ttrpc)
    except Exception as error:
        error.add_note(f"The guest's console:\n{vm.console_tail(_CONSOLE_LINES)}")
        raise
    finally:
        await vm.stop()
    assert leftovers(vm, pids) == []


def leftovers(vm: Vm, pids: dict[str, int]) -> list[str]:
    """What a stopped machine has left: processes, and sockets on the disk or in the kernel."""
    run_dir = vm.config.run_dir
    processes = [f"process {name} {pid}" for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]
    files = [f"file {path}" for path in run_dir.iterdir() if path.suffix != ".log"]
    bound = [
        f"socket {line.split()[-1]}"
        for line in Path("/proc/net/unix").read_text().splitlines()
        if str(run_dir) in line
    ]
    return processes + files + bound


@asynccontextmanager
async def short_directory(name: str) -> AsyncIterator[Path]:
    """A directory whose path is short enough for sockets, unlike pytest's; removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix=f"pykata-{name}-", dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def ext4_disk(path: Path, label: str, message: str) -> Disk:
    """An ext4 file system with one file, `hello`, that says `message`."""
    tree = path.with_suffix(".tree")
    tree.mkdir()
    (tree / "hello").write_text(message)
    with path.open("wb") as file:
        file.truncate(8 * 1024 * 1024)
    _run("mkfs.ext4", "-q", "-L", label, "-d", str(tree), str(path))
    return Disk(label, path)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
