"""The agent's life: what is built in which order, what runs meanwhile, how it ends.

Listening comes first. Whatever else a guest needs is started behind it, so that the host's first
request is answered as early as possible (docs/architecture.md).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from agent.config import AgentConfig
from agent.errors import AgentError, Generation
from agent.linux.process import set_oom_score_adjust
from agent.processes.reaper import Reaper
from agent.transports.dispatch import Dispatcher
from agent.transports.listener import Listener

if TYPE_CHECKING:
    from agent.log_port import LogRing
    from agent.service.agent import Agent

_log = logging.getLogger("agent.supervisor")

# Containers die before the agent when memory runs out: the value of the originals' systemd unit.
_OOM_SCORE_ADJUST = -997
# How long answers under way may take to reach their peers once the agent stops.
_STOP_GRACE_S = 1.0
# How long a signalled agent spends on removing its sandbox. systemd's own patience ends at 90 s.
_TEAR_DOWN_S = 20.0


async def supervise(config: AgentConfig, *, is_init: bool, log_ring: LogRing | None = None) -> None:
    """Serve until DestroySandbox or SIGTERM asks for the end, then stop in order.

    `log_ring` is where the log goes if the host follows it over its own port.
    As `is_init` the agent has the machine to itself: it loads drivers, and the keyboard cannot end it.
    Raises OSError when the server's address cannot be had, and AgentError: without the policy that it
    is to start with, no call is answered.
    """
    async with AsyncExitStack() as life:
        reaper = Reaper()
        reaper.start()
        life.callback(reaper.stop)
        stop = asyncio.Event()
        _stop_on_signals(stop, keyboard=not is_init)
        if is_init:
            from agent.pid1.drivers import CHANNEL_DRIVERS, load_drivers

            await load_drivers(reaper, CHANNEL_DRIVERS)

        if log_ring is not None:
            _offer_log(config.log_vport, log_ring, life)

        router = _LateRouter()
        listener = Listener(config.server_addr, router)
        await listener.start()
        _log.info("listening", extra={"address": config.server_addr, "uptime_s": _uptime_s()})

        # The service is half of all the agent's code: peers may connect while it is loaded.
        from agent.service.agent import Agent
        from agent.service.routes import Router

        agent = Agent(config, reaper)
        await agent.policy.load(config.policy_file)
        router.set(Router(agent))
        later = asyncio.create_task(_what_can_wait(agent, reaper, is_init=is_init), name="what can wait")
        later.add_done_callback(_report)
        life.push_async_callback(agent.devices.stop)
        life.push_async_callback(_end, later)
        if config.passfd_listener_port:
            _accept_streams(config.passfd_listener_port, agent, life)
        if config.debug_console and config.debug_console_vport:
            _offer_console(config.debug_console_vport, reaper, life)
        life.push_async_callback(_leave_nothing, agent)
        life.push_async_callback(listener.stop, _STOP_GRACE_S)
        await _first_of(stop.wait(), agent.shutdown.wait())
        _log.info("stopping", extra={"reason": "signal" if stop.is_set() else "sandbox destroyed"})


class _LateRouter:
    """Stands before the router that does not exist yet: calls wait for it (a Dispatcher)."""

    def __init__(self) -> None:
        self._router: asyncio.Future[Dispatcher] = asyncio.get_running_loop().create_future()

    def set(self, router: Dispatcher) -> None:
        """Let the calls through to `router`."""
        self._router.set_result(router)

    async def call(
        self, generation: Generation, service: str, method: str, payload: bytes, metadata: Mapping[str, str]
    ) -> bytes:
        """As Dispatcher.call."""
        router = await asyncio.shield(self._router)
        return await router.call(generation, service, method, payload, metadata)


async def _what_can_wait(agent: Agent, reaper: Reaper, *, is_init: bool) -> None:
    """The rest of the start, behind the listener. What fails here is logged where it is missed."""
    try:
        set_oom_score_adjust(_OOM_SCORE_ADJUST)
    except OSError as error:
        _log.debug("oom_score_adj stays as it is", extra={"error": error.strerror})
    if is_init:
        from agent.pid1.drivers import DEVICE_DRIVERS, load_drivers, seed_random

        await load_drivers(reaper, DEVICE_DRIVERS)
        try:
            seed_random()
        except OSError as error:
            _log.warning("seeding the random number generator failed", extra={"error": error.strerror})
    if os.geteuid() == 0:
        try:
            await agent.devices.start()
        except AgentError as error:
            _log.warning("uevents cannot be heard", extra={"error": str(error)})


async def _leave_nothing(agent: Agent) -> None:
    """Remove the sandbox of an agent that is stopped by a signal, not by its host."""
    from agent.service.sandbox_calls import tear_down

    try:
        async with asyncio.timeout(_TEAR_DOWN_S):
            await tear_down(agent)
    except (AgentError, TimeoutError) as error:
        _log.error("the sandbox is not removed", extra={"error": str(error) or type(error).__name__})


def _accept_streams(port: int, agent: Agent, life: AsyncExitStack) -> None:
    """Let the host connect processes' streams itself; without the port it gets them by calls."""
    from agent.transports.passfd import PassfdListener

    listener = PassfdListener()
    try:
        listener.start(port)
    except OSError as error:
        _log.error("no port for streams", extra={"port": port, "error": str(error)})
        return
    agent.passed_connections = listener
    life.callback(listener.stop)


def _offer_log(port: int, ring: LogRing, life: AsyncExitStack) -> None:
    """The log for whoever holds the host; on standard output if the port cannot be had."""
    from agent.log_port import LogPort, fall_back

    log_port = LogPort(ring)
    try:
        log_port.start(port)
    except OSError as error:
        fall_back(ring, sys.stdout)
        _log.error("no port for the log", extra={"port": port, "error": str(error)})
        return
    life.push_async_callback(log_port.stop)


def _offer_console(port: int, reaper: Reaper, life: AsyncExitStack) -> None:
    """A shell for whoever holds the host; nothing else depends on it."""
    from agent.debug_console import DebugConsole, is_locked  # off in almost every guest

    if is_locked():
        _log.warning("no debug console: the image forbids it", extra={"port": port})
        return
    console = DebugConsole(port, reaper)
    try:
        console.start()
    except OSError as error:
        _log.error("no debug console", extra={"port": port, "error": str(error)})
        return
    life.push_async_callback(console.stop)


def _stop_on_signals(stop: asyncio.Event, *, keyboard: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT) if keyboard else (signal.SIGTERM,):
        loop.add_signal_handler(number, stop.set)


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of `waits` is over; end the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            await _end(task)


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and see it gone, whatever its result."""
    task.cancel()
    await asyncio.wait([task])


def _report(task: asyncio.Task[None]) -> None:
    """Log what ended `task`: without the rest of the start the agent still serves most requests."""
    if not task.cancelled() and (error := task.exception()):
        _log.error("a part of the start failed", exc_info=error)


def _uptime_s() -> float:
    """Seconds since the machine's kernel started. clock_gettime(2)."""
    return round(time.clock_gettime(time.CLOCK_BOOTTIME), 3)
