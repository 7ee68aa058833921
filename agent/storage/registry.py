"""Storage handlers by driver name, found as entry points of the installed packages.

Any package may bring handlers: an entry point in the group below, named as the driver is on the
wire, is all that it takes (docs/storage-drivers.md, "A driver of your own").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, cast

from agent.errors import InvalidRequest
from agent.storage.handler import StorageHandler

GROUP = "kata_agent.storage_handlers"


class EntryPoint(Protocol):
    """The part of importlib.metadata.EntryPoint needed here."""

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> str: ...

    def load(self) -> object: ...


class HandlerRegistry:
    """Looks each driver up once. Nothing is read or imported before the first look-up."""

    def __init__(self, find: Callable[[], Iterable[EntryPoint]] | None = None) -> None:
        self._find = find or _installed_entry_points
        self._claims: dict[str, list[EntryPoint]] | None = None
        self._handlers: dict[str, StorageHandler] = {}

    def drivers(self) -> list[str]:
        """The names of all drivers, sorted. Reads the index, imports no handler."""
        return sorted(self._index())

    def handler(self, driver: str) -> StorageHandler:
        """The handler of `driver`, imported on first use.

        Raises InvalidRequest for an unknown driver, and for a name that two packages claim.
        """
        if (known := self._handlers.get(driver)) is not None:
            return known
        claims = self._index().get(driver, [])
        if not claims:
            raise InvalidRequest(
                f"Unknown storage driver {driver!r}; known: {', '.join(self.drivers()) or 'none'}"
            )
        if len(claims) > 1:
            values = ", ".join(sorted(claim.value for claim in claims))
            raise InvalidRequest(f"storage driver {driver!r} is claimed more than once: {values}")
        handler = cast("type[StorageHandler]", claims[0].load())()
        self._handlers[driver] = handler
        return handler

    def _index(self) -> dict[str, list[EntryPoint]]:
        if self._claims is None:
            self._claims = {}
            for entry_point in self._find():
                claims = self._claims.setdefault(entry_point.name, [])
                # One package seen twice on sys.path is no second claim.
                if all(claim.value != entry_point.value for claim in claims):
                    claims.append(entry_point)
        return self._claims


def _installed_entry_points() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # not at start: costs memory before it is needed

    return entry_points(group=GROUP)
