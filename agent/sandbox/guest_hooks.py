"""Hooks that the guest image brings for every container (CreateSandbox.guest_hook_path)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_KINDS = ("prestart", "poststart", "poststop")

Hooks = dict[str, list[dict[str, object]]]


def find_guest_hooks(directory: str) -> Hooks:
    """OCI hooks by kind: the executable regular files below `directory`/KIND, sorted by name.

    Links and everything else are passed over, and so is a missing directory. Blocks for a few stat
    calls. Raises OSError. Source: kata-containers/agent oci.go.
    """
    return {kind: _hooks_of(Path(directory, kind)) for kind in _KINDS}


def _hooks_of(directory: Path) -> list[dict[str, object]]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [
        {"path": str(directory / name), "args": [name, directory.name]}
        for name in names
        if _is_executable_file(directory / name)
    ]


def _is_executable_file(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)
