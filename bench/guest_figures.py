"""What a guest costs: from power-on, and from its first process, to the agent's first answer."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import get_args

from bench.figures import Figure
from host.client import connect
from host.guest_images import guest_directory
from host.vm.config import GuestImage, ImageForm, VmConfig
from host.vm.qemu import Vm

# The kernel says this as it starts process 1 (init/main.c, run_init_process), at the level of information.
_INIT_STARTS = "Run /init as init process"
_SHOW_INFORMATION = "loglevel=7"
_RASTER_S = 0.02
_PATIENCE_S = 120


async def power_on_to_answer() -> list[Figure]:
    """Boot a guest of each form, and ask for Check."""
    figures: list[Figure] = []
    for form in get_args(ImageForm):
        with tempfile.TemporaryDirectory(prefix="pykata-bench-") as directory:
            figures += await _boot(form, Path(directory))
    return figures


async def _boot(form: ImageForm, directory: Path) -> list[Figure]:
    image = GuestImage(guest_directory(), form)
    parameters = (_SHOW_INFORMATION,)
    config = VmConfig(
        "bench", directory, image, memory_mib=1024, cpus=2, shared_fs="none", kernel_params=parameters
    )
    machine = Vm(config)
    power_on = time.perf_counter()
    init_starts = asyncio.create_task(_line_appears(machine.console_log, _INIT_STARTS))
    await machine.start()
    try:
        async with await connect(machine.agent_address, wire="ttrpc", timeout_s=_PATIENCE_S) as client:
            await client.call("Check", client.messages.CheckRequest())
        answered = time.perf_counter()
        started = await init_starts
    finally:
        await machine.stop()
    note = f"form {form}, under TCG, 2 processors, one boot"
    return [
        Figure("VM power-on to an answered Check", answered - power_on, 12, "s", note=note),
        Figure("process 1 to an answered Check", answered - started, 4, "s", note=note),
    ]


async def _line_appears(console: Path, text: str) -> float:
    """When `text` is first seen on the console, on this process's clock."""
    while text not in (console.read_text(errors="replace") if console.exists() else ""):  # noqa: ASYNC110
        await asyncio.sleep(_RASTER_S)  # QEMU appends to a file: there is no event to wait for
    return time.perf_counter()
