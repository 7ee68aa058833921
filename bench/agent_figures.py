"""What the agent costs on this machine: start, calls, containers, output, and nothing while idle."""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.figures import Figure
from bench.native_agent import container_request, create_sandbox, native_agent, process_request
from host.client import AgentClient

_STARTS = 15
_CHECKS = 2000
_CONTAINERS = 25
_READ_BYTES = 1 << 20
_OUTPUT_MB = 1000
_IDLE_S = 10


async def start_to_listening() -> list[Figure]:
    """From spawning `kata-agent` to the first connection it takes."""
    seconds = []
    for _ in range(_STARTS):
        started = time.perf_counter()
        async with native_agent() as agent, await agent.connect() as client:
            seconds.append(time.perf_counter() - started)
            await client.call("Check", client.messages.CheckRequest())
    note = f"median of {_STARTS} starts, unshare(1) and a 50 ms connect raster included"
    return [Figure("kata-agent start to listening", statistics.median(seconds) * 1000, 200, "ms", note=note)]


async def check_latency() -> list[Figure]:
    """One Check after the other over ttrpc on a unix socket."""
    async with native_agent() as agent, await agent.connect() as client:
        request = client.messages.CheckRequest()
        seconds = await _timed(_CHECKS, lambda: client.call("Check", request))
    return [
        Figure(
            "Check over ttrpc, unix socket",
            statistics.median(seconds) * 1e6,
            150,
            "µs",
            note=f"median of {_CHECKS}",
        )
    ]


async def container_latencies() -> list[Figure]:
    """create + start, exec and remove of a container over ttrpc."""
    launch, execute, remove = [], [], []
    async with native_agent() as agent, await agent.connect() as client:
        await create_sandbox(client)
        messages = client.messages
        for number in range(_CONTAINERS):
            request = container_request(client, agent.rootfs, "/bin/sleep", "1000")
            container_id = request.container_id  # type: ignore[attr-defined]  # generated class
            started = time.perf_counter()
            await client.call("CreateContainer", request)
            await client.call("StartContainer", messages.StartContainerRequest(container_id=container_id))
            launch.append(time.perf_counter() - started)

            started = time.perf_counter()
            await client.call(
                "ExecProcess", process_request(client, container_id, f"exec{number}", "/bin/true")
            )
            execute.append(time.perf_counter() - started)

            kill = messages.SignalProcessRequest(container_id=container_id, exec_id=container_id, signal=9)
            await client.call("SignalProcess", kill)
            await client.call(
                "WaitProcess", messages.WaitProcessRequest(container_id=container_id, exec_id=container_id)
            )
            started = time.perf_counter()
            await client.call("RemoveContainer", messages.RemoveContainerRequest(container_id=container_id))
            remove.append(time.perf_counter() - started)
    note = f"median of {_CONTAINERS}"
    return [
        Figure("create + start of a container", statistics.median(launch) * 1000, 25, "ms", note=note),
        Figure("exec", statistics.median(execute) * 1000, 15, "ms", note=note),
        Figure("remove", statistics.median(remove) * 1000, 15, "ms", note=note),
    ]


async def output_throughput() -> list[Figure]:
    """ReadStdout of 1 GB over ttrpc."""
    async with native_agent() as agent, await agent.connect() as client:
        await create_sandbox(client)
        command = f"dd if=/dev/zero bs=1M count={_OUTPUT_MB} 2>/dev/null"
        request = container_request(client, agent.rootfs, "/bin/sh", "-c", command)
        container_id = request.container_id  # type: ignore[attr-defined]  # generated class
        await client.call("CreateContainer", request)
        started = time.perf_counter()
        await client.call("StartContainer", client.messages.StartContainerRequest(container_id=container_id))
        read = await _read_all(client, container_id)
        seconds = time.perf_counter() - started
    assert read == _OUTPUT_MB << 20, f"{read} bytes arrived, {_OUTPUT_MB << 20} were written"
    rate = read / seconds / 1e6
    return [Figure("ReadStdout of 1 GB over ttrpc", rate, 200, "MB/s", at_least=True, note="one reader")]


async def idle_cost() -> list[Figure]:
    """Memory and wake-ups with one ttrpc peer, one running container and one ReadStdout that waits."""
    async with native_agent() as agent, await agent.connect() as client:
        await create_sandbox(client)
        request = container_request(client, agent.rootfs, "/bin/sleep", "1000")
        container_id = request.container_id  # type: ignore[attr-defined]  # generated class
        await client.call("CreateContainer", request)
        await client.call("StartContainer", client.messages.StartContainerRequest(container_id=container_id))
        waiting = asyncio.create_task(_read_all(client, container_id))
        await client.call("Check", client.messages.CheckRequest())
        resident = _resident_mb(agent.pid)
        calls = await asyncio.to_thread(_system_calls, agent.pid)
        waiting.cancel()
    return [
        Figure("resident memory, idle", resident, 32, "MB", note="VmRSS, one ttrpc peer, one container"),
        Figure("system calls while idle", calls, 0, "calls", note=f"strace -f -c, {_IDLE_S} s, all threads"),
    ]


async def _timed(times: int, action: Callable[[], Awaitable[object]]) -> list[float]:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        await action()
        seconds.append(time.perf_counter() - started)
    return seconds


async def _read_all(client: AgentClient, container_id: str) -> int:
    """Read stdout to its end; how many bytes came."""
    messages, total = client.messages, 0
    request = messages.ReadStreamRequest(container_id=container_id, exec_id=container_id, len=_READ_BYTES)
    while data := (await client.call("ReadStdout", request, timeout_s=None)).data:
        total += len(data)
    return total


def _resident_mb(pid: int) -> float:
    """proc_pid_status(5), VmRSS, in MB of 10**6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def _system_calls(pid: int) -> int:
    """How many system calls all threads of `pid` finish within the time that idleness is watched."""
    with tempfile.NamedTemporaryFile(prefix="pykata-bench-") as report:
        tracer = subprocess.Popen(["strace", "-f", "-q", "-o", report.name, "-p", str(pid)])
        try:
            tracer.wait(timeout=_IDLE_S)
        except subprocess.TimeoutExpired:
            tracer.send_signal(2)
            tracer.wait()
        lines = Path(report.name).read_text().splitlines()
    # A thread that only waits is "<unfinished ...>" or "<detached ...>": no result, and no wake-up.
    return sum(1 for line in lines if " = " in line)
