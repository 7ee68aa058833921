"""A container's bundle: the directory that crun reads, with the root filesystem bound into it.

Everything here blocks and is called through `run_blocking`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import AlreadyExists, InvalidRequest, KernelRefused
from agent.linux.mount import bind_mount, umount
from agent.linux.mountinfo import mounts_below
from agent.linux.paths import remove_tree

# Neighbours of the bundles in their directory (/run/kata-containers), which are no container's.
_RESERVED_NAMES = frozenset({"image", "sandbox", "shared"})

# Only root reads a bundle; a container's own root, when it has a user namespace, walks through it.
_MODE = 0o711


@dataclass(frozen=True, slots=True)
class Bundle:
    """The bundle at `path`."""

    path: str

    @property
    def rootfs(self) -> str:
        """Where the container's root filesystem is bound to."""
        return f"{self.path}/rootfs"

    @property
    def config(self) -> str:
        """The OCI document; its presence tells that a container owns the bundle."""
        return f"{self.path}/config.json"

    def reserve(self) -> None:
        """Make the directory, or take the one in which storages have been mounted.

        Raises InvalidRequest for a reserved name, AlreadyExists if a container has it, KernelRefused.
        """
        name = os.path.basename(self.path)
        if name in _RESERVED_NAMES:
            raise InvalidRequest(f"{name!r} cannot be a container's id: the agent's own files lie there")
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path, _MODE)
            os.close(os.open(self.config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            raise AlreadyExists(f"container {name} already exists") from None
        except OSError as error:
            raise KernelRefused.from_oserror("making the bundle", error) from error

    def fill(self, root_path: str, spec: dict[str, Any]) -> None:
        """Bind the root filesystem `root_path` into the bundle and write the document.

        Raises InvalidRequest if there is no such directory or a symbolic link lies on the way to it;
        KernelRefused.
        """
        check_root_path(root_path)
        try:
            if os.path.normpath(root_path) != self.rootfs:
                os.mkdir(self.rootfs, 0o755)
                bind_mount(root_path, self.rootfs)
            self.write("config.json", spec)
        except OSError as error:
            raise KernelRefused.from_oserror("filling the bundle", error) from error

    def write(self, name: str, document: dict[str, Any]) -> str:
        """Write a JSON file into the bundle; its path. Raises OSError."""
        path = f"{self.path}/{name}"
        Path(path).write_text(json.dumps(document))
        return path

    def remove(self) -> None:
        """Unmount all that stands in the bundle and delete it. Safe to call twice.

        Nothing is deleted through a mount: one that will not go leaves the bundle and an error.
        Raises KernelRefused.
        """
        try:
            for entry in mounts_below(self.path):
                _unmount(entry.mount_point)
            remove_tree(self.path)
        except OSError as error:
            raise KernelRefused.from_oserror("removing the bundle", error) from error


def check_root_path(path: str) -> None:
    """Check that `path` is a directory, absolute and without a symbolic link on the way.

    Raises InvalidRequest.
    """
    if not os.path.isabs(path):
        raise InvalidRequest(f"root.path {path!r} is not absolute")
    if not os.path.isdir(path):
        raise InvalidRequest(f"the container's root filesystem {path!r} does not exist in the guest")
    if os.path.realpath(path) != os.path.normpath(path):
        raise InvalidRequest(f"the way to the container's root filesystem {path!r} leads over a link")


def _unmount(mount_point: str) -> None:
    try:
        umount(mount_point)
    except OSError as error:
        if error.errno == errno.EINVAL:  # gone meanwhile: a mount that went with the one it stood on
            return
        if error.errno != errno.EBUSY:
            raise
        umount(mount_point, detach=True)
