"""Subsets of a kernel's modules, with what they depend on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from image_builder.commands import run_inside
from image_builder.errors import ImageBuildError

# modules.builtin lets modprobe answer "built in" instead of "not found"; modules.order decides
# between two modules that claim one device. kernel.org, Documentation/kbuild/kbuild.rst.
_INDEX_FILES = ("modules.builtin", "modules.builtin.modinfo", "modules.order")


def kernel_release(kernel_tree: Path) -> str:
    """The one kernel release below `kernel_tree`. Raises ImageBuildError unless there is exactly one."""
    releases = sorted(path.name for path in (kernel_tree / "usr/lib/modules").iterdir())
    if len(releases) != 1:
        raise ImageBuildError(f"expected one kernel, found {releases}")
    return releases[0]


def parse_dependencies(text: str) -> dict[str, list[str]]:
    """modules.dep: each module's file and the files it needs, all relative to the release's folder.

    Format: modules.dep(5).
    """
    dependencies = {}
    for line in text.splitlines():
        file, _, needed = line.partition(":")
        dependencies[file.strip()] = needed.split()
    return dependencies


def select_modules(
    names: Iterable[str], dependencies: Mapping[str, list[str]], builtin: Iterable[str]
) -> list[str]:
    """The files of the modules `names` and of all they depend on, sorted.

    A name that is built into the kernel needs no file. Raises ImageBuildError for an unknown one.
    """
    by_name = {module_name(file): file for file in dependencies}
    built_in = {module_name(file) for file in builtin}
    files: set[str] = set()
    for name in names:
        wanted = module_name(name)
        if wanted in by_name:
            files.add(by_name[wanted])
            files.update(dependencies[by_name[wanted]])
        elif wanted not in built_in:
            raise ImageBuildError(f"this kernel has no module {name!r}")
    return sorted(files)


def module_name(file: str) -> str:
    """The name that the kernel gives to the module in `file`: `-` becomes `_` (modprobe(8))."""
    return PurePosixPath(file).name.partition(".")[0].replace("-", "_")


def make_subset(kernel_tree: Path, name: str, modules: Iterable[str]) -> Path:
    """Copy `modules` to a place of their own in `kernel_tree`, indexed by depmod; return their folder.

    `kernel_tree` has kmod in it, so depmod runs there. Raises ImageBuildError.
    """
    release = kernel_release(kernel_tree)
    source = kernel_tree / "usr/lib/modules" / release
    if not (source / "modules.dep").exists():
        run_inside(kernel_tree, ["/sbin/depmod", release])
    files = select_modules(
        modules,
        parse_dependencies((source / "modules.dep").read_text()),
        (source / "modules.builtin").read_text().split(),
    )
    subset = kernel_tree / f"subset-{name}" / "lib/modules" / release
    for file in (*files, *_INDEX_FILES):
        (subset / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, subset / file)
    run_inside(kernel_tree, ["/sbin/depmod", "-b", f"/subset-{name}", release])
    return subset
