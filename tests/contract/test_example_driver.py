"""A driver in a package of its own: installing it is all that makes it known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import InvalidRequest, KernelRefused
from agent.storage.handler import StorageHandler, StorageRequest
from agent.storage.registry import HandlerRegistry
from tests.fakes.example_driver import EXAMPLE, install_example
from tests.fakes.guest import FakeGuest

DOCS = Path(__file__).parents[2] / "docs/storage-drivers.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_example(tmp_path_factory.mktemp("example"))


@pytest.fixture
def handler(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageHandler]:
    """The handler as the agent would find it."""
    monkeypatch.syspath_prepend(site)
    yield HandlerRegistry().handler("loop")
    del sys.modules["storage_driver_loop"]


def test_it_is_unknown_until_it_is_installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="Unknown storage driver 'loop'"):
        HandlerRegistry().handler("loop")
    before = HandlerRegistry().drivers()
    monkeypatch.syspath_prepend(site)
    assert HandlerRegistry().drivers() == sorted([*before, "loop"])


def test_it_is_the_installed_one(handler: StorageHandler, site: Path) -> None:
    module = sys.modules[type(handler).__module__]
    assert module.__file__ == str(site / "storage_driver_loop.py")
    assert handler.drivers == ("loop",)


@pytest.mark.parametrize(
    ("source", "options", "error", "text"),
    [
        ("/no/such/image", (), KernelRefused, "loop device /no/such/image failed: .*ENOENT"),
        ("/no/such/image", ("loop",), InvalidRequest, "mount option 'loop'"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_mounted(
    handler: StorageHandler, source: str, options: tuple[str, ...], error: type[Exception], text: str
) -> None:
    guest = FakeGuest()
    with pytest.raises(error, match=text):
        await handler.attach(StorageRequest("loop", source, "ext4", "/run/kata-containers/x", options), guest)
    assert guest.log == []


@pytest.mark.parametrize("name", ["storage_driver_loop.py", "pyproject.toml"])
def test_the_documentation_shows_what_works(name: str) -> None:
    content = (EXAMPLE / name).read_text(encoding="utf-8")
    if name == "pyproject.toml":
        start = content.index("[project.entry-points")
        content = content[start : content.index("\n\n", start) + 1]
    assert f"```{'python' if name.endswith('.py') else 'toml'}\n{content}```" in DOCS.read_text(
        encoding="utf-8"
    )
