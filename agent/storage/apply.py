"""Attaching the storages of one request: all of them, or none."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from agent.errors import AgentError, InvalidRequest
from agent.linux.blocking import run_blocking
from agent.storage.handler import AttachedStorage, Guest, StorageHandler, StorageRequest
from agent.storage.mount_points import normal_path
from agent.storage.registry import HandlerRegistry

_log = logging.getLogger("agent.storage")


class StorageLedger(Protocol):
    """Counts the users of each mount point (agent.sandbox.shared_storages.SharedStorages)."""

    async def acquire(
        self, request: StorageRequest, attach: Callable[[], Awaitable[AttachedStorage]]
    ) -> None:
        """Become a user of the request's mount point; only the first one attaches."""

    async def release(self, mount_point: str) -> None:
        """Stop being a user; with the last one the storage goes."""


async def attach_storages(
    requests: Sequence[StorageRequest],
    *,
    guest: Guest,
    registry: HandlerRegistry,
    ledger: StorageLedger,
    stack: contextlib.AsyncExitStack,
    bundle: str = "",
) -> list[str]:
    """Attach `requests` in order; their mount points, normalised, in the same order.

    `bundle` is the directory of the container that they are for; none, if they are the sandbox's.

    Every driver and mount point is checked before anything changes. If one storage fails, those
    before it are released in reverse and the failure is raised; on success, closing `stack`
    releases all of them in reverse.

    Raises InvalidRequest, Unsupported, DeviceTimeout, LimitReached, KernelRefused.
    """
    plan = await run_blocking(_plan, requests, registry, bundle) if requests else []
    async with contextlib.AsyncExitStack() as attached:
        for request, handler in plan:
            attach = functools.partial(handler.attach, request, guest)
            try:
                await ledger.acquire(request, attach)
            except BaseException:
                await _unwind(attached)
                raise
            attached.push_async_callback(ledger.release, request.mount_point)
        stack.push_async_exit(attached.pop_all())
    return [request.mount_point for request, _ in plan]


def _plan(
    requests: Sequence[StorageRequest], registry: HandlerRegistry, bundle: str
) -> list[tuple[StorageRequest, StorageHandler]]:
    """What to attach, and by which handlers. Blocks: the first look-up reads the disk and imports."""
    return [_checked(dataclasses.replace(request, bundle=bundle), registry) for request in requests]


def _checked(request: StorageRequest, registry: HandlerRegistry) -> tuple[StorageRequest, StorageHandler]:
    """The request with its mount point in the one spelling that is counted, and its handler."""
    for field in ("source", "fstype"):
        if "\0" in getattr(request, field):
            raise InvalidRequest(f"NUL byte in the {field} of the storage at {request.mount_point!r}")
    handler = registry.handler(request.driver)
    return dataclasses.replace(request, mount_point=normal_path(request.mount_point)), handler


async def _unwind(attached: contextlib.AsyncExitStack) -> None:
    """Release what is attached so far. The failure that led here is what the caller is told."""
    try:
        await attached.aclose()
    except AgentError as error:
        _log.error("undoing storages after a failure: %s", error)
