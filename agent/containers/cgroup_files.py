"""The files of a container's cgroup, by controller, on either cgroup version.

A file is named by its controller and its own name: `("memory", "memory.stat")`. On v1 each controller
has a hierarchy of its own, on v2 all share one (cgroups(7)). Everything here blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

_HUGEPAGE_FILE = re.compile(r"hugetlb\.(\w+)\.(?:usage_in_bytes|current)")


class CgroupFiles:
    """The cgroup at `path`, absolute as seen from a hierarchy's root, of the hierarchies below `root`."""

    def __init__(self, path: str, root: str = "/sys/fs/cgroup") -> None:
        self.path = path
        self.root = root

    @property
    def is_unified(self) -> bool:
        """Whether this guest has cgroup v2."""
        return os.path.exists(f"{self.root}/cgroup.controllers")

    def directory(self, controller: str) -> str:
        """Where the container's files of `controller` are, if there are any."""
        return self._hierarchy(controller) + self.path

    def lineage(self, controller: str) -> Iterator[str]:
        """The directories from below the hierarchy's root down to the one above the container's."""
        parent, above = posixpath.dirname(self.path), []
        while parent != "/":
            above.append(self._hierarchy(controller) + parent)
            parent = posixpath.dirname(parent)
        yield from reversed(above)

    def top(self, controller: str) -> str:
        """The root directory of the controller's hierarchy."""
        return self._hierarchy(controller)

    def read(self, controller: str, name: str) -> str | None:
        """A file's text, or None if it cannot be had: no such controller, or the container is gone."""
        try:
            return Path(self.directory(controller), name).read_text()
        except OSError:
            return None

    def write(self, controller: str, name: str, value: str) -> None:
        """Write one value. Raises OSError."""
        write_file(f"{self.directory(controller)}/{name}", value)

    def page_sizes(self) -> list[str]:
        """The kernel's names of the sizes of huge pages that this guest can limit ("2MB")."""
        try:
            names = os.listdir(self.directory("hugetlb"))
        except OSError:
            return []
        return sorted({match[1] for name in names if (match := _HUGEPAGE_FILE.fullmatch(name))})

    def processes(self) -> set[int]:
        """The processes of the container, nested cgroups included; none if it is gone.

        Those that live in a pid namespace out of the agent's sight have no number and are left out.
        """
        controller = next((name for name in ("pids", "memory", "cpu") if self._has(name)), "devices")
        found: set[int] = set()
        for place, _, _ in os.walk(self.directory(controller)):
            try:
                found.update(map(int, Path(place, "cgroup.procs").read_text().split()))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                    raise
        return found - {0}

    def signal_all(self, signum: int) -> None:
        """Send a signal to all of `processes`; those that have gone meanwhile are passed over.

        Raises OSError.
        """
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)

    def _has(self, controller: str) -> bool:
        return os.path.isdir(self.directory(controller))

    def _hierarchy(self, controller: str) -> str:
        return self.root if self.is_unified else f"{self.root}/{controller}"


def write_file(path: str, value: str) -> None:
    """Write to a cgroup's file, which takes a value in one piece or refuses it. Raises OSError.

    Never makes a file: below a directory that is no cgroup's, a value would be kept and mean nothing.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(descriptor)
