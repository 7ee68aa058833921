"""What the image is made of, read from the files beside this package."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from image_builder.errors import ImageBuildError

InitSystem = Literal["agent", "systemd"]

# What of the project goes into the wheel, and so into the image.
_WHEEL_SOURCES = ("agent", "host", "protos", "storage_handlers", "pyproject.toml", "README.md")
# The extras of pyproject.toml that go into the image.
_GUEST_EXTRAS = ("policy",)


@dataclass(frozen=True, slots=True)
class Removal:
    """Paths (globs relative to the root) that the image does without, and the reason."""

    why: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what an image contains."""

    project: Path
    packages: tuple[str, ...]
    kernel_packages: tuple[str, ...]
    initramfs_modules: tuple[str, ...]
    root_modules: tuple[str, ...]
    removals: tuple[Removal, ...]
    dependencies: tuple[str, ...]
    init_system: InitSystem = "agent"

    @property
    def directory(self) -> Path:
        """The folder of the image's own files."""
        return self.project / "rootfs-image"

    @property
    def overlays(self) -> tuple[Path, ...]:
        """Trees that are copied into the root, in this order."""
        names = ("overlay",) if self.init_system == "agent" else ("overlay", "overlay-systemd")
        return tuple(self.directory / name for name in names)


def load_recipe(project: Path, *, init_system: InitSystem = "agent") -> Recipe:
    """Read the recipe of the project at `project`. Raises ImageBuildError."""
    directory = project / "rootfs-image"
    try:
        packages = parse_list((directory / "packages.txt").read_text())
        kernel_packages = parse_list((directory / "kernel-packages.txt").read_text())
        modules = parse_sections((directory / "modules.txt").read_text())
        removals = parse_removals((directory / "trim.toml").read_text())
        metadata = tomllib.loads((project / "pyproject.toml").read_text())
        if init_system == "systemd":
            packages += parse_list((directory / "packages-systemd.txt").read_text())
            removals += parse_removals((directory / "trim-systemd.toml").read_text())
    except FileNotFoundError as error:
        raise ImageBuildError(
            f"{error.filename} is missing", hint="an image is built from a checkout of the project"
        ) from error
    return Recipe(
        project=project,
        packages=packages,
        kernel_packages=kernel_packages,
        initramfs_modules=modules["initramfs"],
        root_modules=modules["root"],
        removals=removals,
        dependencies=_guest_dependencies(metadata["project"]),
        init_system=init_system,
    )


def _guest_dependencies(project: Mapping[str, Any]) -> tuple[str, ...]:
    """What the agent needs, and the optional packages that the guest has all the same."""
    extras = project.get("optional-dependencies", {})
    return (*project["dependencies"], *(each for name in _GUEST_EXTRAS for each in extras.get(name, ())))


def parse_list(text: str) -> tuple[str, ...]:
    """One word a line; `#` starts a comment."""
    return tuple(word for line in text.splitlines() if (word := line.partition("#")[0].strip()))


def parse_sections(text: str) -> dict[str, tuple[str, ...]]:
    """Lists as in `parse_list` under `[name]` lines. Raises ImageBuildError on a word before the first."""
    sections: dict[str, tuple[str, ...]] = {}
    name = ""
    for word in parse_list(text):
        if word.startswith("[") and word.endswith("]"):
            name = word[1:-1]
            sections[name] = ()
        elif not name:
            raise ImageBuildError(f"{word!r} stands before the first [section]")
        else:
            sections[name] += (word,)
    return sections


def parse_removals(text: str) -> tuple[Removal, ...]:
    """The entries of trim.toml. Raises ImageBuildError when one lacks its reason or leaves the root."""
    removals = []
    for entry in tomllib.loads(text).get("remove", []):
        paths = tuple(entry.get("paths", ()))
        if not entry.get("why") or not paths:
            raise ImageBuildError(f"an entry of trim.toml needs `why` and `paths`: {entry}")
        for path in paths:
            if path.startswith("/") or ".." in path.split("/"):
                raise ImageBuildError(f"{path!r} in trim.toml is not relative to the image's root")
        removals.append(Removal(entry["why"], paths))
    return tuple(removals)


def fingerprint(recipe: Recipe) -> str:
    """A hash over all inputs: while it stays the same, so does the image (but for newer packages)."""
    digest = hashlib.sha256(f"{recipe.init_system}\0".encode())
    for path in sorted(_input_files(recipe)):
        name = str(path.relative_to(recipe.project))
        mode = path.lstat().st_mode & 0o7777
        body = path.readlink().as_posix().encode() if path.is_symlink() else path.read_bytes()
        digest.update(f"{name}\0{mode:o}\0{len(body)}\0".encode())
        digest.update(body)
    return digest.hexdigest()


def words_fingerprint(words: Iterable[str]) -> str:
    """A short hash of some words, in the order given: the name of a cached stage."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def _input_files(recipe: Recipe) -> Iterator[Path]:
    for source in (*_WHEEL_SOURCES, "rootfs-image"):
        path = recipe.project / source
        if path.is_dir():
            yield from (item for item in path.rglob("*") if _counts(item))
        elif path.exists():
            yield path


def _counts(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        return False
    return "__pycache__" not in path.parts and path.suffix not in {".pyc", ".md"}
