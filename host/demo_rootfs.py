"""A root filesystem small enough to make on the spot: busybox and what it needs around it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from host.errors import HostError
from host.vm.programs import find_program

_DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "var")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/home:/bin/sh\n",
    "etc/group": "root:x:0:\nguest:x:1000:\n",
    "etc/os-release": 'ID=busybox\nPRETTY_NAME="busybox"\n',
}


def make_busybox_rootfs(directory: Path) -> Path:
    """Make it in `directory` unless it is there; returns `directory`.

    Raises ToolMissing without busybox, HostError if that is not the static one.
    """
    if directory.is_dir():
        return directory
    busybox = find_program("busybox")
    draft = directory.with_name(f".{directory.name}.{os.getpid()}")
    for name in _DIRECTORIES:
        (draft / name).mkdir(parents=True)
    (draft / "tmp").chmod(0o1777)
    for name, text in _FILES.items():
        (draft / name).write_text(text)
    shutil.copy(busybox, draft / "bin" / "busybox")
    # By use: in an otherwise empty root only the static one can run.
    installed = subprocess.run(
        ["chroot", str(draft), "/bin/busybox", "--install", "-s", "/bin"], capture_output=True, check=False
    )
    if installed.returncode != 0:
        shutil.rmtree(draft)
        raise HostError(f"{busybox} is not the static busybox", "run `apt-get install busybox-static`")
    draft.rename(directory)
    return directory
