"""A container whose command exists in the guest: more commands in it, and signals to all of them."""

from __future__ import annotations

import asyncio
import signal
import uuid
from dataclasses import replace

from host.agent_messages import fill_message
from host.client import AgentClient
from host.container_config import ContainerConfig
from host.monitor_protocol import Execute, FrameKind
from host.oci_spec import default_spec
from host.process_io import ProcessIo


class RunningContainer:
    """The container of a sandbox, from its start to its removal."""

    def __init__(self, client: AgentClient, config: ContainerConfig) -> None:
        self.init = ProcessIo(client, config.container_id, config.container_id, terminal=config.terminal)
        self._client = client
        self._config = config
        self._unheard: set[asyncio.Task[int]] = set()

    async def execute(self, request: Execute) -> ProcessIo:
        """Start another command; it gets the container's environment, user and directory unless it
        has its own. Raises HostError, AgentCallError."""
        config = self._config
        added = dict(item.split("=", 1) for item in request.env)
        wanted = replace(
            config,
            args=request.command,
            environment=dict(config.environment) | added,
            cwd=request.workdir or config.cwd,
            user=request.user or config.user,
            terminal=request.tty,
        )
        messages = self._client.messages
        exec_id = str(uuid.uuid4())
        document = fill_message(messages.Process(), default_spec(wanted)["process"])
        await self._client.call(
            "ExecProcess",
            messages.ExecProcessRequest(container_id=config.container_id, exec_id=exec_id, process=document),
        )
        process = ProcessIo(self._client, config.container_id, exec_id, terminal=request.tty)
        if request.window:
            await process.resize(request.window)
        if request.detach or not (request.interactive or request.tty):
            await process.close_input()
        return process

    def leave(self, process: ProcessIo) -> None:
        """Take a process that nobody listens to any more to its end; its output is dropped."""
        task = asyncio.create_task(process.run(_Nowhere()))
        self._unheard.add(task)
        task.add_done_callback(self._unheard.discard)

    async def kill_all(self) -> None:
        """Send SIGKILL to every process of the container. Raises AgentCallError."""
        # No exec id: all of them, on both generations (agent-api, SignalProcess).
        everyone = ProcessIo(self._client, self._config.container_id, "", terminal=False)
        await everyone.signal(signal.SIGKILL)

    async def forget(self) -> None:
        """Stop waiting for the processes that nobody listens to."""
        for task in self._unheard:
            task.cancel()
        await asyncio.gather(*self._unheard, return_exceptions=True)


class _Nowhere:
    async def write(self, stream: FrameKind, data: bytes) -> None:
        """Drop it."""
