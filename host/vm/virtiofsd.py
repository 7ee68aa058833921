"""virtiofsd, the process that serves the shared directory for virtio-fs.

Two programs go by that name. The older, in C, comes with QEMU up to 7.2 (Debian 12:
qemu-system-common) and takes `-o source=`; the later one, in Rust, takes `--shared-dir`
(documentation of virtiofsd 1.x; not tried here). Both take a listening socket as `--fd`, so nobody
has to wait for it to appear.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Literal

from host.vm.children import Child
from host.vm.programs import find_program

Dialect = Literal["c", "rust"]


def virtiofsd_command(program: Path, dialect: Dialect, share_dir: Path, fd: int) -> list[str]:
    """The command that serves `share_dir` on the listening socket `fd`.

    cache=auto is Kata's default. The process is confined by chroot, since its own namespaces want
    privileges that a container lacks. POSIX locks stay in the guest, as Kata has it.
    """
    if dialect == "rust":
        options = ["--shared-dir", str(share_dir), "--cache", "auto", "--sandbox", "chroot"]
        return [str(program), f"--fd={fd}", *options]
    # In `-o` options a comma ends the value; a backslash keeps it (fuse_opt_parse).
    source = str(share_dir).replace("\\", "\\\\").replace(",", "\\,")
    options = [f"source={source}", "cache=auto", "no_posix_lock", "sandbox=chroot"]
    words = [word for option in options for word in ("-o", option)]
    return [str(program), f"--fd={fd}", "-f", *words]


def _dialect_of(program: Path) -> Dialect:
    """Which virtiofsd this is, by its own help text."""
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=10, check=False)
    return "rust" if "--shared-dir" in done.stdout + done.stderr else "c"


def start_virtiofsd(share_dir: Path, socket_path: Path, log: Path) -> Child:
    """Start it, listening on `socket_path`. Raises ToolMissing, or OSError for the socket."""
    program = find_program("virtiofsd")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        socket_path.chmod(0o600)
        listener.listen(1)
        fd = listener.fileno()
        command = virtiofsd_command(program, _dialect_of(program), share_dir, fd)
        return Child.start("virtiofsd", command, log=log, pass_fds=[fd])
