"""Which container a new one wants mounts of: hosts name it as Kubernetes does."""

from __future__ import annotations

import asyncio
import logging
import os

from agent.containers.container import Container
from agent.containers.shared_mounts import share_mount, until_mounted
from agent.errors import InvalidRequest
from agent.service.agent import Agent
from agent.service.requests import CreateContainer

_log = logging.getLogger("agent.service.containers")

# containerd's and CRI-O's annotation of a container's name, in the order in which they are asked
# (kata-containers src/libs/kata-types/src/k8s.rs).
_NAME_ANNOTATIONS = ("io.kubernetes.cri.container-name", "io.kubernetes.cri-o.ContainerName")

# How long a container may take to make what it shares; as long as the 4.x agent waits.
_PATIENCE_S = 10.0


def check_shared_mounts(request: CreateContainer) -> None:
    """Raises InvalidRequest for a path that is not absolute."""
    for mount in request.shared_mounts:
        for path in (mount.source_path, mount.path):
            if not os.path.isabs(path) or "\0" in path:
                raise InvalidRequest(f'the path "{path}" of a shared mount is not absolute')


async def share_mounts(agent: Agent, request: CreateContainer, container: Container) -> None:
    """Give the new `container` the mounts of others that its request names.

    A container that is not there, or has not made its mount in time, is passed over, as 4.x hosts
    expect. Raises KernelRefused.
    """
    for mount in request.shared_mounts:
        source = _named(agent, mount.source_container)
        if source is None:
            continue
        if not await _is_made(source, mount.source_path):
            _log.warning(
                "a shared mount is left out: its container does not have it",
                extra={"container": source.id, "path": mount.source_path},
            )
            continue
        await share_mount(source.init.pid, mount.source_path, container.init.pid, mount.path)


async def _is_made(source: Container, path: str) -> bool:
    """Whether the mount is there, or comes before the container's end and our patience's."""
    made = asyncio.create_task(until_mounted(source.init.pid, path, _PATIENCE_S))
    ended = asyncio.create_task(source.init.exited.wait())
    try:
        await asyncio.wait({made, ended}, return_when=asyncio.FIRST_COMPLETED)
        return not ended.done() and made.result()
    finally:
        for task in (made, ended):
            task.cancel()
        await asyncio.wait({made, ended})


def _named(agent: Agent, name: str) -> Container | None:
    for member in agent.sandbox.members():
        if member.container is not None and name and _name(member.container) == name:
            return member.container
    return None


def _name(container: Container) -> str:
    annotations = container.spec.get("annotations") or {}
    return next((str(annotations[key]) for key in _NAME_ANNOTATIONS if key in annotations), "")
