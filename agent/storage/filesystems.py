"""Making filesystems on disks that come empty."""

from __future__ import annotations

from dataclasses import dataclass

from agent.errors import KernelRefused, LaunchFailed, Unsupported
from agent.processes.reaper import Reaper
from agent.processes.spawn import run

_PROGRAM = "mkfs.ext4"

# For scratch space, as kata-containers src/agent/src/storage/block_handler.rs has them: no journal, no
# blocks kept for root, few and small inodes. -F takes a whole disk and one that held something before;
# given once, it still leaves a mounted one alone (mke2fs(8)).
_OPTIONS = ("-F", "-O", "^has_journal", "-m", "0", "-i", "163840", "-I", "128")

# Assumed. With so few inodes there is little to write, but the disk may be a busy network's.
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Filesystems:
    """What makes filesystems (agent.storage.handler.GuestFilesystems)."""

    reaper: Reaper

    async def make_ext4(self, node: str) -> None:
        """Make an ext4 on the disk `node`; see GuestFilesystems.make_ext4."""
        try:
            done = await run(self.reaper, [_PROGRAM, *_OPTIONS, node], timeout_s=_TIMEOUT_S)
        except LaunchFailed as error:
            raise Unsupported(
                f"{node} stays without a filesystem: {error}", hint="the guest needs e2fsprogs"
            ) from error
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).decode(errors="replace").split())
            raise KernelRefused(f"{_PROGRAM} {node} failed with {done.returncode}: {said}")
