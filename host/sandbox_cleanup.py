"""Clear away a sandbox, whatever was killed before it could clear up after itself.

Needs nothing but the sandbox's directory. The order matters: processes first, since they hold the
rest; then mounts, so that removing the directory can never reach a volume's files; then files.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from host.bind_mounts import unmount_path
from host.errors import HostError
from host.linux_mount import mounts_below, read_mountinfo
from host.process_identity import ProcessIdentity
from host.state import Sandbox, SandboxStore

KILL_TIMEOUT_S = 10.0


def clear_away(store: SandboxStore, sandbox: Sandbox) -> None:
    """Kill, unmount and remove all of `sandbox`. Safe to call twice, and beside another call.

    Raises HostError when something of it cannot be killed or unmounted; nothing is removed then.
    """
    for process in _recorded(sandbox):
        if not process.kill(timeout_s=KILL_TIMEOUT_S):
            raise HostError(
                f"process {process.pid} of sandbox {sandbox.id} does not end on SIGKILL",
                "it may hang in the kernel: look at /proc/PID/stack and try again",
            )
    remove_files(sandbox.path)
    store.tidy()


def remove_files(directory: Path) -> None:
    """Unmount all that is mounted below `directory`, then remove it.

    Raises HostError if a mount stays: then no file is touched, for it might be a volume's.
    """
    directory = directory.resolve()
    for entry in mounts_below(directory, read_mountinfo()):
        unmount_path(Path(entry.mount_point))
    left = mounts_below(directory, read_mountinfo())
    if left:
        raise HostError(f"{left[0].mount_point} is still mounted", f"unmount it, then remove {directory}")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


def _recorded(sandbox: Sandbox) -> list[ProcessIdentity]:
    """The monitor first: what it has started dies with it (PDEATHSIG)."""
    try:
        record = sandbox.read()
    except HostError:  # no record: the creation was cut short before anything was started
        return []
    return [*([record.monitor] if record.monitor else []), *record.processes]
