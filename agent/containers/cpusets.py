"""Which CPUs containers may use, once the guest has got more of them.

A new CPU reaches a cgroup only if its parent has it, so the way is from the root to the container
(cpuset(7), and Documentation/admin-guide/cgroup-v2.rst, "Cpuset Interface Files"). On cgroup v2 an
empty list means the parent's, and needs no work.

Blocks; called through `run_blocking`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def spread_cpus(cgroups: str, path: str, online: str, own: str) -> None:
    """Let the cgroup `path` have the CPUs `own`, or all `online` if it has no list of its own.

    All above it get those that are `online`. `cgroups` is where the hierarchies are. A container that
    has gone meanwhile is passed over. Raises OSError with the file's name.
    """
    hierarchy = cgroups if os.path.exists(f"{cgroups}/cgroup.controllers") else f"{cgroups}/cpuset"
    names = path.strip("/").split("/")
    with contextlib.suppress(FileNotFoundError):
        for depth in range(1, len(names)):
            _change(Path(hierarchy, *names[:depth], "cpuset.cpus"), online)
        _change(Path(hierarchy, *names, "cpuset.cpus"), own or online)


def _change(file: Path, cpus: str) -> None:
    """Write only where it changes something: nothing is told to a list that follows its parent's."""
    if file.read_text().strip() not in ("", cpus):
        file.write_text(cpus)
