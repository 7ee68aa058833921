"""create_container with a real share: what the guest would see, and that a failure leaves no trace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

from host import create_container as module
from host.bind_mounts import unmount_below
from host.container_config import ContainerConfig, Mount, SharedRootfs
from host.create_container import Sandbox, create_container
from host.errors import HostError
from host.linux_mount import read_mountinfo
from host.share import SharedPath, remove_shared_path, setup_shared_path
from protos import kata1, kata2
from tests.fakes.host_sandbox import RecordingAgent, RecordingBus

GUEST_SHARE = "/run/kata-containers/shared/containers/"


@dataclass(frozen=True)
class Host:
    """A sandbox's directory, a root filesystem and a volume."""

    sandbox_dir: Path
    share: SharedPath
    root: Path
    volume: Path

    def sandbox(self) -> Sandbox:
        """The sandbox that shares the directory."""
        return Sandbox("sandbox-1", self.share, RecordingBus())

    def config(self, *options: str) -> ContainerConfig:
        """A container with the volume at /data, mounted with `options`."""
        return ContainerConfig(
            "container-1",
            SharedRootfs(self.root),
            ("true",),
            mounts=(Mount("/data", str(self.volume), "bind", ("rbind", *options)),),
        )

    def in_share(self, guest_path: str) -> Path:
        """What the guest sees at `guest_path`, a path in its share."""
        return self.share.shared / guest_path.removeprefix(GUEST_SHARE)


@pytest.fixture
def host(run_dir: Path, tmp_path: Path) -> Iterator[Host]:
    for name in ("root", "volume"):
        (tmp_path / name).mkdir()
    (tmp_path / "root/marker").write_text("root")
    share = setup_shared_path(run_dir / "sandbox")
    yield Host(run_dir / "sandbox", share, tmp_path / "root", tmp_path / "volume")
    remove_shared_path(run_dir / "sandbox")
    left = list((run_dir / "sandbox").iterdir())
    unmount_below(run_dir)
    assert left == []


@pytest.mark.parametrize("messages", [kata1, kata2], ids=["kata1", "kata2"])
async def test_guest_finds_root_and_volume_where_the_request_says(host: Host, messages: ModuleType) -> None:
    agent = RecordingAgent(messages=messages)
    created = await create_container(agent, host.sandbox(), host.config("rw"))
    request = agent.request
    assert request.OCI.Root.Path == f"{GUEST_SHARE}container-1/rootfs"
    assert (host.in_share(request.OCI.Root.Path) / "marker").read_text() == "root"
    assert list(request.storages) == []  # neither needs one: both come through the share
    (data,) = [entry for entry in request.OCI.Mounts if entry.destination == "/data"]
    assert (data.type, list(data.options)) == ("bind", ["rbind", "rw"])
    (host.volume / "from-host").write_text("1")
    assert (host.in_share(data.source) / "from-host").read_text() == "1"
    (host.in_share(data.source) / "from-container").write_text("2")
    assert (host.volume / "from-container").read_text() == "2"
    await created.release()
    await created.release()
    assert list(host.share.mounts.iterdir()) == []
    assert sorted(path.name for path in host.volume.iterdir()) == ["from-container", "from-host"]


async def test_read_only_volume_is_read_only_through_the_share(host: Host) -> None:
    agent = RecordingAgent()
    created = await create_container(agent, host.sandbox(), host.config("ro"))
    (data,) = [entry for entry in agent.request.OCI.Mounts if entry.destination == "/data"]
    assert "ro" in data.options
    with pytest.raises(OSError, match="Read-only"):
        (host.in_share(data.source) / "new").touch()
    await created.release()


async def test_two_containers_share_a_volume_but_no_names(host: Host) -> None:
    agent = RecordingAgent()
    first = await create_container(agent, host.sandbox(), host.config("rw"))
    other = replace(host.config("rw"), container_id="container-2")
    second = await create_container(agent, host.sandbox(), other)
    places = {
        entry.source
        for _, request in agent.calls
        for entry in request.OCI.Mounts
        if entry.destination == "/data"
    }
    assert len(places) == 2
    await first.release()
    (left,) = [place for place in places if host.in_share(place).exists()]
    assert "container-2" in left
    await second.release()


def fail(*_: object, **__: object) -> None:
    """Stands for a step that fails."""
    raise HostError("injected")


@pytest.mark.parametrize(
    "step",
    [
        "bind_mount_container_rootfs",
        "mount_shared_dir_mounts",
        "handle_shm",
        "handle_ephemeral_storage",
        "handle_hugepages",
        "handle_local_storage",
        "handle_devices",
        "handle_block_volumes",
        "take_pid_namespace",
        "constrain_spec",
        "fill_message",
        "the call itself",
    ],
)
async def test_a_failure_at_any_step_leaves_the_host_as_it_was(
    host: Host, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picture() -> tuple[list[str], list[str]]:
        files = sorted(
            os.path.join(parent, name) for parent, d, f in os.walk(host.sandbox_dir) for name in d + f
        )
        return [entry.mount_point for entry in read_mountinfo()], files

    before = picture()
    agent = RecordingAgent()
    if step == "the call itself":
        agent.on_call = fail
    else:
        monkeypatch.setattr(module, step, fail)
    with pytest.raises(HostError, match="injected"):
        await create_container(agent, host.sandbox(), host.config("ro"))
    assert picture() == before


async def test_missing_volume_source_takes_the_root_filesystem_with_it(host: Host) -> None:
    host.volume.rmdir()
    with pytest.raises(HostError, match="Could not resolve symlink for source"):
        await create_container(RecordingAgent(), host.sandbox(), host.config("rw"))
    assert list(host.share.mounts.iterdir()) == []
