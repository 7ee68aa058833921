"""The sandbox's DNS servers, in front of the guest's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from agent.errors import InvalidRequest, KernelRefused
from agent.linux.blocking import run_blocking
from agent.linux.mount import MountFlag, mount, umount
from agent.service.agent import GuestPaths

_log = logging.getLogger("agent.service.sandbox")


async def install_resolv_conf(paths: GuestPaths, lines: Sequence[str], undo: AsyncExitStack) -> None:
    """Write `lines` to a file of the sandbox's and mount it over the guest's resolv.conf.

    A guest without a resolv.conf keeps none, as with the originals: nothing in it would read one.
    Raises InvalidRequest (a directory is in its place), KernelRefused.
    """
    target = paths.system_resolv_conf
    if os.path.isdir(target):
        raise InvalidRequest(f"{target} is a directory: the DNS servers cannot be set")
    if not os.path.exists(target):
        _log.info("the guest has no %s: DNS servers are not set", target)
        return
    text = "\n".join(line.strip() for line in lines)
    try:
        await run_blocking(_install, text, paths.resolv_conf, target, undo=lambda _: _remove(paths))
    except OSError as error:
        raise KernelRefused.from_oserror("setting DNS servers", error) from error
    undo.push_async_callback(run_blocking, _remove, paths)


def _install(text: str, source: str, target: str) -> None:
    Path(source).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    Path(source).write_text(text)
    try:
        mount(source, target, "", MountFlag.BIND)
    except BaseException:
        Path(source).unlink()
        raise


def _remove(paths: GuestPaths) -> None:
    umount(paths.system_resolv_conf, detach=True)
    with suppress(FileNotFoundError):
        Path(paths.resolv_conf).unlink()
    with suppress(OSError):  # it holds something else, or is gone
        Path(paths.resolv_conf).parent.rmdir()
