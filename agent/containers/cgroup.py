"""What crun leaves behind of a container's cgroup.

crun makes the directories above a container's own and never removes them, and one that was killed in
the midst of its work removes nothing at all. On pure cgroup v1, crun 1.8.1 also leaves plain files
below `unified`, a directory that it makes itself (own measurement).

Everything here blocks and is called through `run_blocking`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from agent.errors import AlreadyExists, InvalidRequest

# Cgroup v1 tells nobody when a cgroup has become empty; a killed process takes a moment to go.
_ATTEMPTS = 100
_PAUSE_S = 0.01

# The directories above containers' cgroups: how many containers need each, and which are ours to
# remove. One table for the process, as there is one cgroup tree for the guest.
_lock = threading.Lock()
_users: Counter[str] = Counter()
_made: set[str] = set()


class Cgroup:
    """A container's place in every cgroup hierarchy. Serves one container, once."""

    def __init__(self, path: str, root: str = "/sys/fs/cgroup") -> None:
        """`path` is absolute, as seen from a hierarchy's root; `root` is where the hierarchies are.

        Raises InvalidRequest if `path` is the root itself.
        """
        if path == "/":
            raise InvalidRequest("a container cannot have the root cgroup")
        self._path = path
        self._root = root
        self._parents: list[str] = []
        self._is_ours = False

    def reserve(self) -> None:
        """Note which of the directories above are missing, before crun makes them.

        Raises AlreadyExists if processes run in the cgroup: its removal would kill them.
        """
        for hierarchy in self._hierarchies():
            # Beside v1 hierarchies, `unified` holds nothing but crun's plain files.
            if not hierarchy.endswith("/unified") and _is_populated(hierarchy + self._path):
                raise AlreadyExists(f"processes of somebody else run in the cgroup {self._path!r}")
        with _lock:
            self._parents = list(self._directories_above())
            _users.update(self._parents)
            _made.update(parent for parent in self._parents if not os.path.isdir(parent))
        self._is_ours = True

    def remove_leftovers(self) -> None:
        """Remove what is left of the container's cgroup, and of the directories made for it.

        Processes still in there are killed. Does nothing before `reserve` has found the place free, and
        is safe to call twice. Raises OSError (EBUSY: it cannot be emptied).
        """
        if not self._is_ours:
            return
        for hierarchy in self._hierarchies():
            _remove(hierarchy + self._path)
        with _lock:
            _users.subtract(self._parents)
            for parent in self._parents:
                if _users[parent] <= 0:
                    del _users[parent]
                    self._remove_parent(parent)
            self._parents = []

    def _hierarchies(self) -> list[str]:
        """The root directories: one on v2; on v1 one per controller, and what crun makes beside them."""
        if os.path.exists(f"{self._root}/cgroup.controllers"):
            return [self._root]
        try:
            names = [entry.path for entry in os.scandir(self._root) if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        return sorted({*names, f"{self._root}/unified"})

    def _directories_above(self) -> list[str]:
        """In all hierarchies, deepest first."""
        above = []
        parent = posixpath.dirname(self._path)
        while parent != "/":
            above += [hierarchy + parent for hierarchy in self._hierarchies()]
            parent = posixpath.dirname(parent)
        return above

    @staticmethod
    def _remove_parent(parent: str) -> None:
        if parent in _made:
            _made.discard(parent)
            with contextlib.suppress(OSError):  # somebody else has put a cgroup of his own there
                os.rmdir(parent)


def _remove(directory: str) -> None:
    """Remove one cgroup with those below it, deepest first, killing what runs in them."""
    for place, _, _ in os.walk(directory, topdown=False):
        _remove_one(place)


def _remove_one(directory: str) -> None:
    with contextlib.suppress(OSError):  # EPERM on a cgroup filesystem, whose files go with it
        os.unlink(f"{directory}/cgroup.procs")
    for _ in range(_ATTEMPTS):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            _kill_processes(directory)
            time.sleep(_PAUSE_S)
        else:
            return
    raise OSError(errno.EBUSY, "processes stay in the cgroup", directory)


def _is_populated(directory: str) -> bool:
    for place, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):
            if _processes(place):
                return True
    return False


def _kill_processes(directory: str) -> None:
    with contextlib.suppress(OSError):
        for pid in _processes(directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes(directory: str) -> list[int]:
    """Those in this very cgroup, as far as this pid namespace sees them. Raises OSError."""
    pids = map(int, Path(directory, "cgroup.procs").read_text().split())
    return [pid for pid in pids if pid > 0]
