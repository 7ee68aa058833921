"""What every registered storage handler owes the agent, whoever brought it."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from agent.errors import AgentError
from agent.storage.handler import FsGroup, StorageHandler, StorageRequest
from agent.storage.registry import HandlerRegistry
from tests.fakes.guest import FakeGuest

REGISTRY = HandlerRegistry()
DRIVERS = REGISTRY.drivers()

# A request that each driver of this project carries out; a new driver adds its own.
GOOD_REQUESTS = {
    "9p": ("kataShared", "9p", ("trans=virtio",)),
    "virtio-fs": ("kataShared", "virtiofs", ()),
    "blk": ("02/03", "ext4", ()),
    "blk-ccw": ("0.0.0002", "ext4", ()),
    "mmioblk": ("/dev/vdb", "ext4", ()),
    "scsi": ("0:1", "ext4", ()),
    "nvdimm": ("/dev/pmem1", "ext4", ("dax",)),
    "ephemeral": ("nodev", "hugetlbfs", ("pagesize=2097152,size=2097152",)),
    "local": ("local", "local", ("mode=0700",)),
    "overlayfs": ("overlay", "overlay", ("io.katacontainers.fs-opt.overlay-rw", "lowerdir=/layer")),
}

ALLOWED_IMPORTS = (
    "agent.storage.handler",
    "agent.storage.mount_options",
    "agent.devices",
    "agent.linux",
    "agent.errors",
)


def good_request(driver: str, fs_group: FsGroup | None = None) -> StorageRequest:
    source, fstype, options = GOOD_REQUESTS[driver]
    return StorageRequest(
        driver,
        source,
        fstype,
        "/run/kata-containers/x",
        options,
        fs_group=fs_group,
        bundle="/run/kata-containers/c",
    )


def test_every_driver_of_this_project_is_registered() -> None:
    assert set(GOOD_REQUESTS) <= set(DRIVERS)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_handler_answers_to_the_name_it_is_registered_under(driver: str) -> None:
    handler = REGISTRY.handler(driver)
    assert isinstance(handler, StorageHandler)
    assert driver in handler.drivers


@pytest.mark.parametrize("driver", DRIVERS)
async def test_it_attaches_and_releases_twice(driver: str) -> None:
    guest = FakeGuest()
    attached = await REGISTRY.handler(driver).attach(good_request(driver), guest)
    assert attached.mount_point == "/run/kata-containers/x"
    assert guest.held
    await attached.release()
    await attached.release()
    assert guest.held == []


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_failure_at_any_step_leaves_nothing_taken(driver: str) -> None:
    handler, trial = REGISTRY.handler(driver), FakeGuest()
    await handler.attach(good_request(driver, FsGroup(3, False)), trial)
    assert trial.log
    for step in trial.log:
        guest = FakeGuest(refuse=[step])
        with pytest.raises(AgentError, match="refused"):
            await handler.attach(good_request(driver, FsGroup(3, False)), guest)
        assert guest.held == []


@pytest.mark.parametrize("driver", DRIVERS)
async def test_it_holds_no_state_between_calls(driver: str) -> None:
    handler = REGISTRY.handler(driver)
    before = dict(vars(handler))
    first, second = FakeGuest(), FakeGuest()
    one = await handler.attach(good_request(driver), first)
    other = await handler.attach(good_request(driver), second)
    assert first.log == second.log
    await one.release()
    assert second.held
    await other.release()
    assert vars(handler) == before


@pytest.mark.parametrize("driver", DRIVERS)
def test_its_file_is_short_documented_and_imports_the_contract_alone(driver: str) -> None:
    module = inspect.getmodule(type(REGISTRY.handler(driver)))
    assert module is not None
    assert module.__file__ is not None
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert source.count("\n") <= 150
    assert module.__doc__ is not None
    assert f"docs/storage-drivers.md, section {driver}." in " ".join(module.__doc__.split())
    ours = [
        node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        and node.module
        and node.module.split(".")[0] != "__future__"
        and node.module.split(".")[0] in {"agent", "host", "protos", "storage_handlers"}
    ]
    assert ours
    assert all(name.startswith(ALLOWED_IMPORTS) for name in ours), ours
