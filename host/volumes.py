"""Named volumes, kept as docker keeps them, and what `-v` means."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from host.container_config import Mount
from host.errors import HostError, InvalidInput

# moby, volume/local/local.go and daemon/names: a name is a file name that no path can hide in.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}", re.ASCII)

_ACCESS = ("ro", "rw")
# Words of docker's that change nothing here: labels of SELinux, consistency, copying of the image's
# files, and propagation, which does not reach into a VM.
_PROPAGATION = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
_IGNORED = frozenset(("z", "Z", "nocopy", "consistent", "cached", "delegated", *_PROPAGATION))


@dataclass(frozen=True, slots=True)
class Volume:
    """A named volume. Its files lie in `path`, which is what a container sees."""

    name: str
    path: Path

    @property
    def created_at(self) -> float:
        """When it was made, in seconds since the epoch. Raises OSError."""
        return self.path.parent.stat().st_mtime


class VolumeStore:
    """All named volumes below one data directory: `<data>/volumes/NAME/_data`."""

    def __init__(self, data_dir: Path) -> None:
        self.directory = data_dir / "volumes"

    def ensure(self, name: str) -> Volume:
        """The volume `name`, made if it does not exist. Raises HostError."""
        volume = self._volume(name)
        try:
            self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            volume.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(f"the volume {name} cannot be made: {error}") from error
        return volume

    def get(self, name: str) -> Volume:
        """The volume `name`. Raises InvalidInput if there is none."""
        volume = self._volume(name)
        if not volume.path.is_dir():
            raise InvalidInput(f"there is no volume {name}", "`pykata volume ls` lists them all")
        return volume

    def all(self) -> list[Volume]:
        """Every volume, by name."""
        try:
            names = sorted(entry.name for entry in self.directory.iterdir())
        except FileNotFoundError:
            return []
        found = [Volume(name, self.directory / name / "_data") for name in names if _NAME.fullmatch(name)]
        return [volume for volume in found if volume.path.is_dir()]

    def remove(self, name: str, *, in_use_by: Sequence[str] = ()) -> None:
        """Remove the volume `name` with its files, unless it is in use by a sandbox (`users_of`).

        Raises HostError: there is none, it is in use, or a file of it cannot be removed.
        """
        volume = self.get(name)
        if in_use_by:
            raise HostError(
                f"the volume {name} is in use by {', '.join(in_use_by)}",
                "remove the sandbox first: `pykata rm`",
            )
        try:
            shutil.rmtree(volume.path.parent)
        except OSError as error:
            raise HostError(f"the volume {name} cannot be removed: {error}") from error

    def _volume(self, name: str) -> Volume:
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"{name!r} cannot be the name of a volume",
                "use 2 to 255 letters, digits, '_', '.' and '-', the first of them a letter or a digit",
            )
        return Volume(name, self.directory / name / "_data")


@dataclass(frozen=True, slots=True)
class VolumeArgument:
    """One `-v`: a named volume or a path of the host's, and where it is to appear."""

    source: str
    destination: str
    read_only: bool

    @property
    def is_named(self) -> bool:
        """Whether the source names a volume: a path has a slash in it."""
        return "/" not in self.source


def parse_volume(text: str) -> VolumeArgument:
    """Understand `SRC:DST[:OPTIONS]`, options separated by commas. Raises InvalidInput."""
    source, destination, words = _split(text)
    unknown = [word for word in words if word not in (*_ACCESS, *_IGNORED)]
    if unknown:
        raise InvalidInput(f"-v {text}: there is no option {unknown[0]!r}", "use ro or rw")
    if all(word in words for word in _ACCESS):
        raise InvalidInput(f"-v {text}: a volume cannot be both ro and rw", "choose one")
    if not destination.startswith("/") or os.path.normpath(destination) == "/":
        raise InvalidInput(
            f"-v {text}: {destination!r} is no place in a container", "give an absolute path below /"
        )
    if source in (".", ".."):
        source = f"{source}/"  # as docker has it: a directory, not a name
    return VolumeArgument(source, destination, "ro" in words)


def volume_mount(argument: VolumeArgument, store: VolumeStore) -> Mount:
    """The container's mount for `argument`. A named volume is made; a path must exist.

    Raises InvalidInput.
    """
    if argument.is_named:
        source = store.ensure(argument.source).path
    else:
        source = Path(argument.source).absolute()
        if not source.exists():
            raise InvalidInput(
                f"there is nothing at {source} to mount",
                "make it first, or name a volume without a slash",
            )
    access = "ro" if argument.read_only else "rw"
    return Mount(argument.destination, str(source), "bind", ("rbind", "rprivate", access))


def tmpfs_mount(text: str) -> Mount:
    """The mount for docker's `--tmpfs DST[:OPTIONS]`. Raises InvalidInput."""
    destination, _, words = text.partition(":")
    if not destination.startswith("/") or os.path.normpath(destination) == "/":
        raise InvalidInput(
            f"--tmpfs {text}: {destination!r} is no place in a container", "give an absolute path below /"
        )
    own = tuple(word for word in words.split(",") if word)
    return Mount(destination, "tmpfs", "tmpfs", ("nosuid", "nodev", "noexec", *own))


def users_of(name: str, arguments: Mapping[str, Iterable[str]]) -> list[str]:
    """Who uses the volume `name`, given the `-v` arguments of each sandbox, by the sandbox's name."""
    return [
        sandbox
        for sandbox, texts in arguments.items()
        if any(parse_volume(text).source == name for text in texts)
    ]


def _split(text: str) -> tuple[str, str, list[str]]:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts[:2]):
        raise InvalidInput(f"-v {text} names no source and destination", "write SRC:DST or SRC:DST:ro")
    return parts[0], parts[1], [word for word in ",".join(parts[2:]).split(",") if word]
