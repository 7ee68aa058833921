"""New limits for a running container: written in an order the kernel takes, or not at all.

What is to be written is worked out by `limits_v1` and `limits_v2` from an OCI document's
`linux.resources`. In there a number that is missing (or zero, which is what hosts make of a missing
one) leaves a limit as it is, and a negative one takes it away. Device rules are not looked at: those
of an update carry the host's numbers, and the container's were translated when it was created.

Everything here blocks and is called through `run_blocking`.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.containers import limits_v1, limits_v2
from agent.containers.cgroup_files import CgroupFiles, write_file
from agent.containers.cpu_list import cpu_numbers
from agent.errors import InvalidRequest, KernelRefused, Unsupported

_log = logging.getLogger("agent.containers")

Resources = Mapping[str, Any]
WriteFile = Callable[[str, str, str], None]
"""Takes controller, file and value. Raises OSError."""

# What the kernel says to a value that contradicts another one, which may be about to change: a limit
# above that of memory and swap, a quota beyond the parent's share of the period.
_CONTRADICTIONS = frozenset({errno.EINVAL, errno.EBUSY})

_PAGE_SIZE = re.compile(r"[0-9]+[KMGT]B")
_HIGHEST_SWAPPINESS = 100  # of cgroup v1, Documentation/admin-guide/cgroup-v1/memory.rst


@dataclass(frozen=True, slots=True)
class Limit:
    """A value for a controller's file, and the one that would undo it; `may_fail`: no error then."""

    controller: str
    file: str
    value: str
    old: str | None
    may_fail: bool = False


def update_limits(files: CgroupFiles, resources: Resources, *, cpus_may_come: bool) -> None:
    """Give a container the limits of `resources`; those it does not name stay.

    After a failure the limits are what they were. `cpus_may_come`: a set of CPUs that the guest does
    not have (yet) is no failure. Raises InvalidRequest, Unsupported, KernelRefused.
    """
    check(resources)
    version = limits_v2 if files.is_unified else limits_v1
    limits = [
        Limit(controller, file, value, previous_value(value, files.read(controller, file)))
        for controller, file, value in version.limits(resources, files.read)
    ]
    for kind in ("mems", "cpus"):
        if wanted := (resources.get("cpu") or {}).get(kind):
            widen_above(files, kind, wanted)
            name = f"cpuset.{kind}"
            may_fail = cpus_may_come and kind == "cpus"
            old = previous_value(wanted, files.read("cpuset", name))
            limits.append(Limit("cpuset", name, wanted, old, may_fail))
    set_all(limits, files.write)


def check(resources: Resources) -> None:
    """Refuse what contradicts itself on either version. Raises InvalidRequest."""
    memory = resources.get("memory") or {}
    swappiness = memory.get("swappiness", 0)
    if not 0 <= swappiness <= _HIGHEST_SWAPPINESS:
        raise InvalidRequest(f"memory.swappiness {swappiness} is not between 0 and {_HIGHEST_SWAPPINESS}")
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if 0 < swap < limit:
        raise InvalidRequest(f"memory+swap limit should be >= memory limit: {swap} is less than {limit}")
    for kind in ("cpus", "mems"):
        if text := (resources.get("cpu") or {}).get(kind):
            cpu_numbers(text)
    for pages in resources.get("hugepageLimits") or ():
        if not _PAGE_SIZE.fullmatch(pages["pageSize"]):  # it becomes part of a file's name
            raise InvalidRequest(f"{pages['pageSize']!r} is no size of huge pages")


def previous_value(value: str, text: str | None) -> str | None:
    """What to write to a file that reads `text` to have back what `value` replaces; None: nothing.

    A file may hold one line per device or interface, of which `value` sets one.
    """
    if text is None:
        return None
    key, _, rest = value.partition(" ")
    if not rest:  # of several lines (memory.oom_control) the first has the number
        first, *others = text.strip().splitlines() or [""]
        return first.split()[-1] if others else first
    if key.isdigit() or key == "max":  # cpu.max: quota and period
        return text.strip()
    kept = next((line for line in text.splitlines() if line.split()[:1] == [key]), None)
    name, is_named, _ = rest.partition("=")
    return kept or (f"{key} {name}=max" if is_named else f"{key} 0")


def set_all(limits: Sequence[Limit], write: WriteFile) -> None:
    """Write all of `limits`; when one cannot be written even after the others, none of them.

    Raises Unsupported for a file this guest does not have, KernelRefused.
    """
    written: list[Limit] = []
    pending = list(limits)
    while pending:
        refused = _write_each(pending, write)
        written += [limit for limit in pending if limit not in dict(refused)]
        helped = len(refused) < len(pending)
        for limit, error in refused:
            if not (limit.may_fail or (helped and error.errno in _CONTRADICTIONS)):
                _restore(written, write)
                raise _refusal(limit, error)
        pending = [limit for limit, _ in refused if helped]
    # What is left has been refused to the end, and may be.


def _write_each(limits: Sequence[Limit], write: WriteFile) -> list[tuple[Limit, OSError]]:
    """Write what can be written; what was refused, and why."""
    refused = []
    for limit in limits:
        try:
            write(limit.controller, limit.file, limit.value)
        except OSError as error:
            refused.append((limit, error))
            _log.debug("a limit is refused", extra={"file": limit.file, "error": error.strerror})
    return refused


def _restore(written: Sequence[Limit], write: WriteFile) -> None:
    """Write back what stood there, the last first; one that contradicts another gets a second chance."""
    pending = [
        Limit(limit.controller, limit.file, limit.old, None)
        for limit in reversed(written)
        if limit.old is not None
    ]
    for _ in range(2):
        pending = [limit for limit, _ in _write_each(pending, write)]
    for limit in pending:
        _log.error("a limit could not be restored", extra={"file": limit.file, "value": limit.value})


def _refusal(limit: Limit, error: OSError) -> KernelRefused | Unsupported:
    if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
        return Unsupported(f"this guest's kernel has no {limit.file}, which the new limits need")
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    return KernelRefused(f"setting {limit.file} to {limit.value} failed: {error.strerror} ({name})")


def widen_above(files: CgroupFiles, kind: str, wanted: str) -> None:
    """Let every directory above the container's have the CPUs (`cpus`) or nodes (`mems`) `wanted`.

    One that would not allow them gets all that the guest has, from the top down: it holds the sandbox's
    other containers, too. What cannot be widened is logged; the container's own set will be refused.
    """
    name = f"cpuset.{kind}"
    for directory in files.lineage("cpuset"):
        try:
            allowed = Path(directory, name).read_text().strip()
            if _covers(allowed, wanted, empty_is_all=files.is_unified):
                continue
            write_file(f"{directory}/{name}", _all_there_is(files, kind))
        except OSError as error:
            _log.warning("widening a cpuset", extra={"cgroup": directory, "error": error.strerror})


def _covers(allowed: str, wanted: str, *, empty_is_all: bool) -> bool:
    """Whether a directory's set has all of `wanted`; v2 writes "as above" as nothing, v1 "none"."""
    if not allowed:
        return empty_is_all
    return cpu_numbers(wanted) <= cpu_numbers(allowed)


def _all_there_is(files: CgroupFiles, kind: str) -> str:
    name = f"cpuset.{kind}.effective" if files.is_unified else f"cpuset.{kind}"
    return Path(files.top("cpuset"), name).read_text().strip()
