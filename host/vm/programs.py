"""Where the programs are that a machine needs, and where the project keeps what it computed once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from host.errors import ToolMissing

PROJECT_ROOT = Path(__file__).resolve().parents[2]

# Debian 12: which package brings a program, and where a program lies that no PATH lists.
_PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "virtiofsd": "qemu-system-common",
    "setpriv": "util-linux",
}
_EXTRA_DIRECTORIES = ("/usr/lib/qemu", "/usr/libexec")


def find_program(name: str) -> Path:
    """The path of program `name`. Raises ToolMissing, naming the Debian package that brings it."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), *_EXTRA_DIRECTORIES])
    found = shutil.which(name, path=search)
    if found is None:
        package = _PACKAGES.get(name, name)
        raise ToolMissing(f"the program {name} is not installed", f"run `apt-get install {package}`")
    return Path(found)


def cache_dir() -> Path:
    """The directory of results that can be computed again: `$XDG_CACHE_HOME/pykata`, made if absent.

    Source: XDG Base Directory Specification.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(base) / "pykata"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory
