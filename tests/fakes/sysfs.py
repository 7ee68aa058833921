"""A sysfs tree from a dict, with the links between classes and devices that the kernel would make."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Union

Tree = Mapping[str, Union[str, "Tree"]]
"""Names to file contents or to trees of their own; a name may be a path of several steps."""


def build_sysfs(root: Path, tree: Tree) -> Path:
    """Make `tree` below `root`; returns `root`."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        path = root / name
        if isinstance(content, str):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="ascii")
        else:
            build_sysfs(path, content)
    return root


def plug(root: Path, subsystem: str, devpath: str) -> None:
    """Have a device of the class `subsystem` appear at `devpath` (which begins with /devices/)."""
    directory = root / devpath.lstrip("/")
    directory.mkdir(parents=True)
    class_directory = root / "class" / subsystem
    class_directory.mkdir(parents=True, exist_ok=True)
    link = class_directory / directory.name
    link.symlink_to(os.path.relpath(directory, class_directory))
