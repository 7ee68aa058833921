"""Handlers are found by name, lazily, and never by accident."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from agent.errors import InvalidRequest
from agent.storage.handler import AttachedStorage, Guest, StorageHandler, StorageRequest
from agent.storage.registry import HandlerRegistry


class Nothing(StorageHandler):
    drivers = ("nothing",)

    async def attach(self, request: StorageRequest, guest: Guest) -> AttachedStorage:
        raise NotImplementedError


@dataclass
class FakeEntryPoint:
    name: str
    value: str
    loads: list[str] = field(default_factory=list)

    def load(self) -> object:
        self.loads.append(self.name)
        return Nothing


def registry_of(*points: FakeEntryPoint) -> tuple[HandlerRegistry, list[int]]:
    finds: list[int] = []

    def find() -> Iterable[FakeEntryPoint]:
        finds.append(1)
        return points

    return HandlerRegistry(find), finds


def test_nothing_is_read_before_the_first_look_up_and_each_thing_only_once() -> None:
    point, other = FakeEntryPoint("nothing", "a:Nothing"), FakeEntryPoint("other", "b:Other")
    registry, finds = registry_of(point, other)
    assert finds == []
    first = registry.handler("nothing")
    assert registry.handler("nothing") is first
    assert finds == [1]
    assert point.loads == ["nothing"]
    assert other.loads == []


def test_an_unknown_driver_is_refused_with_the_known_ones() -> None:
    registry, _ = registry_of(FakeEntryPoint("b", "x:B"), FakeEntryPoint("a", "x:A"))
    with pytest.raises(InvalidRequest, match="'nope'; known: a, b"):
        registry.handler("nope")


def test_a_name_claimed_twice_is_refused_but_the_others_work() -> None:
    registry, _ = registry_of(
        FakeEntryPoint("a", "x:A"), FakeEntryPoint("a", "y:A"), FakeEntryPoint("b", "x:B")
    )
    with pytest.raises(InvalidRequest, match="x:A, y:A"):
        registry.handler("a")
    assert isinstance(registry.handler("b"), Nothing)


def test_one_installation_seen_twice_is_one_claim() -> None:
    registry, _ = registry_of(FakeEntryPoint("a", "x:A"), FakeEntryPoint("a", "x:A"))
    assert isinstance(registry.handler("a"), Nothing)


def test_importing_the_registry_does_not_import_the_metadata_reader() -> None:
    code = "import sys, agent.storage.apply; sys.exit('importlib.metadata' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
