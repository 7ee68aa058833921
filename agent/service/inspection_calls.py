"""Looking into a container from outside: its processes, and the last words it has left."""

from __future__ import annotations

import json
import os
import stat

from agent.containers.container import Container
from agent.errors import InvalidRequest, KernelRefused, NotFound
from agent.linux.blocking import run_blocking
from agent.service.agent import Agent
from agent.service.requests import GetDiagnosticData, ListProcesses
from agent.service.rules import Rules

_TERMINATION_LOG = "termination_log"
# Where the kubelet says that the container leaves its message, and how much of it counts
# (kubernetes, "Customizing the termination message").
_PATH_ANNOTATION = "io.kubernetes.container.terminationMessagePath"
_MOST_BYTES = 4096


async def list_processes(agent: Agent, request: ListProcesses, rules: Rules) -> bytes:
    """The container's processes by their numbers in the guest: as a JSON array, or as ps(1) shows them.

    Raises UnknownContainer, InvalidRequest (another format, unknown ps options), KernelRefused.
    """
    container = agent.sandbox.container(request.container_id)
    if request.format not in ("json", "table"):
        raise InvalidRequest(f'invalid format option "{request.format}": it is "json" or "table"')
    try:
        pids = await run_blocking(container.cgroup_files.processes)
    except OSError as error:
        raise KernelRefused.from_oserror("listing the processes", error) from error
    if request.format == "json":
        return json.dumps(sorted(pids)).encode()
    from agent.processes.ps import process_table  # psutil: 2 MB that few sandboxes need

    return (await run_blocking(process_table, sorted(pids), request.arguments)).encode()


async def get_diagnostic_data(agent: Agent, request: GetDiagnosticData, rules: Rules) -> str:
    """The message that a container has left for the kubelet; empty if it has left none.

    Raises InvalidRequest for any other kind of data; UnknownContainer, NotFound, KernelRefused.
    """
    if request.log_type != _TERMINATION_LOG:
        raise InvalidRequest(f"unsupported diagnostic log_type: {request.log_type}")
    source = termination_log(agent.sandbox.container(request.container_id))
    try:
        return await run_blocking(read_start, source)
    except OSError as error:
        raise KernelRefused.from_oserror("reading the termination message", error) from error


def termination_log(container: Container) -> str:
    """The file in the guest that is the container's termination message. Raises NotFound."""
    path = (container.spec.get("annotations") or {}).get(_PATH_ANNOTATION)
    if not path:
        raise NotFound(f'container "{container.id}" has no annotation {_PATH_ANNOTATION}')
    for mount in container.spec.get("mounts") or ():
        if mount["destination"] == path and mount.get("source"):
            return str(mount["source"])
    raise NotFound(f'container "{container.id}" has no mount at its termination message path "{path}"')


def read_start(path: str) -> str:
    """The first bytes of a file as text; of a missing one, none.

    A container may write to it: a link is not followed, and only a regular file is read, since a
    named pipe would have no end. Blocks. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return stream.read(_MOST_BYTES).decode(errors="replace")
