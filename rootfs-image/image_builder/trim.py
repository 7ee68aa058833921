"""Taking out of a root what nobody in the guest misses."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from image_builder.errors import ImageBuildError
from image_builder.recipe import Removal


def trim(root: Path, removals: Iterable[Removal]) -> int:
    """Remove what `removals` names; return how many paths went.

    Raises ImageBuildError for a glob that matches nothing: the entry has outlived its reason.
    """
    removed = 0
    for removal in removals:
        for pattern in removal.paths:
            matches = sorted(root.glob(pattern))
            if not matches:
                raise ImageBuildError(
                    f"{pattern!r} of trim.toml matches nothing", hint="take the entry out or mend it"
                )
            for path in matches:
                remove(path)
            removed += len(matches)
    return removed


def remove(path: Path) -> None:
    """Remove a file, a link, or a directory with all it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
