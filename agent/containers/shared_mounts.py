"""A mount that one container has made, to be had in another one of the sandbox.

Both containers are strangers: their paths are resolved beneath their own roots, inside their own
mount namespaces, and the mount travels between them as a descriptor. Source of the behaviour:
kata-containers src/agent/src/rpc.rs, "shared_mounts".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import select
import stat
from functools import partial

from agent.errors import KernelRefused
from agent.linux.blocking import run_blocking
from agent.linux.mount_tree import attach_tree, clone_tree
from agent.linux.mountinfo import read_mountinfo
from agent.linux.namespaces import in_mount_namespace
from agent.linux.paths import open_beneath, open_directory


async def until_mounted(pid: int, path: str, timeout_s: float) -> bool:
    """Wait until a process has a mount at `path`, as that process sees it; False after `timeout_s`.

    The kernel tells of changes by EPOLLPRI on the table (proc_pid_mounts(5)). asyncio cannot wait for
    that, but for an epoll descriptor that has something to tell.
    """
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        table = open(f"/proc/{pid}/mountinfo", "rb")  # noqa: SIM115 - closed below, on all ways
    except OSError:
        return False
    with table, select.epoll() as changes, contextlib.suppress(TimeoutError):
        changes.register(table, select.EPOLLPRI)
        loop.add_reader(changes.fileno(), changed.set)
        try:
            async with asyncio.timeout(timeout_s):
                while not await run_blocking(_is_mounted, pid, path):
                    await changed.wait()
                    changed.clear()
                    changes.poll(0)  # takes the news, so that the next ones are told
            return True
        finally:
            loop.remove_reader(changes.fileno())
    return False


async def share_mount(source_pid: int, source_path: str, target_pid: int, target_path: str) -> None:
    """Mount at `target_path` of one process what another has mounted at `source_path`.

    The target is made if it is missing. It goes with the mount namespace it is in. Raises KernelRefused.
    """
    try:
        await run_blocking(_share, source_pid, source_path, target_pid, target_path)
    except OSError as error:
        raise KernelRefused.from_oserror(f"sharing {source_path} as {target_path}", error) from error


def _is_mounted(pid: int, path: str) -> bool:
    try:
        table = read_mountinfo(f"/proc/{pid}/mountinfo")
    except OSError:  # it has exited
        return False
    return any(entry.mount_point == posixpath.normpath(path) for entry in table)


def _share(source_pid: int, source_path: str, target_pid: int, target_path: str) -> None:
    with contextlib.ExitStack() as descriptors:
        source, target = (
            descriptors.enter_context(open(f"/proc/{pid}/ns/mnt", "rb")) for pid in (source_pid, target_pid)
        )
        # The root of the process: the namespace's own is another one where the agent runs in a chroot.
        source_root, target_root = (
            descriptors.enter_context(open_directory(f"/proc/{pid}/root")) for pid in (source_pid, target_pid)
        )
        tree = in_mount_namespace(source.fileno(), partial(_clone, source_root, source_path))
        descriptors.callback(os.close, tree)
        in_mount_namespace(target.fileno(), partial(_attach, tree, target_root, target_path))


def _clone(root: int, path: str) -> int:
    place = open_beneath(root, path, os.O_PATH, in_root=True)
    try:
        return clone_tree(place)
    finally:
        os.close(place)


def _attach(tree: int, root: int, path: str) -> None:
    is_directory = stat.S_ISDIR(os.fstat(tree).st_mode)
    target = _made(root, posixpath.normpath(path), is_directory=is_directory)
    try:
        attach_tree(tree, target)
    finally:
        os.close(target)


def _made(root: int, path: str, *, is_directory: bool) -> int:
    """The file or directory `path` beneath `root`, made with the directories above it if missing."""
    with contextlib.suppress(FileNotFoundError):
        return open_beneath(root, path, os.O_PATH, in_root=True)
    parent_path, name = posixpath.split(path)
    parent = _made(root, parent_path, is_directory=True)
    try:
        if is_directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
    finally:
        os.close(parent)
    return open_beneath(root, path, os.O_PATH, in_root=True)
