"""Building the guest: the stages, what of them is kept, and the manifest that tells what came out."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from image_builder import agent_wheel, kernel_modules, outputs
from image_builder.debian import extract_packages
from image_builder.kernel_image import extract_kernel
from image_builder.recipe import Recipe, fingerprint, words_fingerprint
from image_builder.root_tree import assemble_root, copy_tree

MANIFEST = "manifest.json"
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a built guest is made of."""

    input_hash: str
    init_system: str
    kernel: str
    agent: str
    packages: dict[str, str]
    sizes: dict[str, int]


def read_manifest(output: Path) -> Manifest | None:
    """The manifest of the guest in `output`, or None when there is none or a file of it is missing."""
    try:
        manifest = Manifest(**json.loads((output / MANIFEST).read_text()))
    except (FileNotFoundError, TypeError, ValueError):
        return None
    if any(not (output / name).exists() for name in manifest.sizes):
        return None
    return manifest


def build_guest(
    recipe: Recipe, output: Path, *, cache: Path, progress: Progress, force: bool = False
) -> Manifest:
    """Build the guest into `output` unless it is there and its inputs are unchanged.

    `cache` keeps the stages that change rarely; `force` fetches the packages anew.
    Needs root. Raises ImageBuildError; `output` then holds what it held before.
    """
    wanted = fingerprint(recipe)
    present = read_manifest(output)
    if present is not None and present.input_hash == wanted and not force:
        progress("unchanged")
        return present
    cache.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    if force:
        for stage in cache.iterdir():
            shutil.rmtree(stage)
    with tempfile.TemporaryDirectory(prefix="assembly-", dir=output.parent) as scratch:
        return _Build(recipe, output, cache, Path(scratch), progress).run(wanted)


class _Build:
    """One build: stages from the cache, then the root, then the files."""

    def __init__(self, recipe: Recipe, output: Path, cache: Path, scratch: Path, progress: Progress) -> None:
        self._recipe = recipe
        self._output = output
        self._cache = cache
        self._scratch = scratch
        self._progress = progress

    def run(self, input_hash: str) -> Manifest:
        debian, packages = self._package_stage("root", self._recipe.packages)
        kernel, kernel_packages = self._package_stage("kernel", self._recipe.kernel_packages)
        site = self._scratch / "site"
        copy_tree(self._dependency_stage(), site)
        self._progress("building the agent's wheel")
        agent = agent_wheel.install_agent(self._recipe.project, site)
        self._progress("selecting kernel modules")
        shutil.rmtree(kernel / "subset-root", ignore_errors=True)
        shutil.rmtree(kernel / "subset-initramfs", ignore_errors=True)
        both = (*self._recipe.initramfs_modules, *self._recipe.root_modules)
        root_modules = kernel_modules.make_subset(kernel, "root", both)
        first_modules = kernel_modules.make_subset(kernel, "initramfs", self._recipe.initramfs_modules)
        self._progress("assembling the root filesystem")
        root = self._scratch / "root"
        assemble_root(self._recipe, root, debian=debian, site=site, modules=root_modules)
        release = kernel_modules.kernel_release(kernel)
        sizes = self._write_files(root, kernel / "boot" / f"vmlinuz-{release}", first_modules)
        kernel_package = kernel_packages[f"linux-image-{release}"]
        manifest = Manifest(
            input_hash=input_hash,
            init_system=self._recipe.init_system,
            kernel=f"{release} ({kernel_package})",
            agent=agent,
            packages=packages,
            sizes=sizes,
        )
        (self._output / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n")
        return manifest

    def _package_stage(self, name: str, packages: tuple[str, ...]) -> tuple[Path, dict[str, str]]:
        with self._stage(f"{name}-{words_fingerprint(packages)}") as (stage, missing):
            if missing:
                self._progress(f"fetching Debian packages: {name}")
                versions = extract_packages(packages, stage / "tree")
                (stage / "versions.json").write_text(json.dumps(versions))
        return stage / "tree", json.loads((stage / "versions.json").read_text())

    def _dependency_stage(self) -> Path:
        requirements = self._recipe.dependencies
        with self._stage(f"python-{words_fingerprint(requirements)}") as (stage, missing):
            if missing:
                self._progress("fetching Python packages")
                agent_wheel.install_dependencies(requirements, stage)
        return stage

    @contextmanager
    def _stage(self, name: str) -> Iterator[tuple[Path, bool]]:
        """A directory of the cache and whether it is to be filled; half-filled, it goes again."""
        place = self._cache / name
        missing = not place.exists()
        if missing:
            place.mkdir()
        try:
            yield place, missing
        except BaseException:
            if missing:
                shutil.rmtree(place, ignore_errors=True)
            raise

    def _write_files(self, root: Path, kernel: Path, first_modules: Path) -> dict[str, int]:
        made = self._scratch / "files"
        made.mkdir()
        self._progress("writing vmlinuz, vmlinux and initramfs.cpio.zst")
        shutil.copyfile(kernel, made / "vmlinuz")
        (made / "vmlinux").write_bytes(extract_kernel(kernel.read_bytes()))
        outputs.write_initramfs(
            self._recipe.directory,
            made / "initramfs.cpio.zst",
            busybox=root / "usr/bin/busybox",
            modules=first_modules,
            names=self._recipe.initramfs_modules,
            scratch=self._scratch / "initramfs",
        )
        self._progress("writing rootfs.ext4")
        outputs.write_ext4(root, made / "rootfs.ext4")
        self._progress("writing initrd.cpio.zst")
        outputs.write_initrd(root, made / "initrd.cpio.zst")
        sizes = {}
        for file in sorted(made.iterdir()):
            sizes[file.name] = file.stat().st_size
            file.replace(self._output / file.name)
        return sizes
