"""The example driver, installed beside an agent: a host's request reaches it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.linux.mountinfo import read_mountinfo
from tests.fakes.disks import make_image
from tests.fakes.example_driver import install_example
from tests.leaks import Footprint
from tests.privileged.agents import BOTH_WIRES, Wire, agent_process, guest_state, host_of

POINT = "/run/kata-containers/sandbox/storage/image"


def loops_of(image: Path) -> list[str]:
    """The loop devices over `image`."""
    return [line for line in Footprint.take().loop_devices if str(image) in line]


@BOTH_WIRES
async def test_an_image_file_as_a_volume(
    wire: Wire, busybox_rootfs: Path, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(install_example(tmp_path)))
    image = make_image(tmp_path / "image", "ext4")
    with agent_process(run_dir) as agent:
        async with host_of(agent, wire, busybox_rootfs) as host:
            before = guest_state(ignored=run_dir)
            details = await host.call("GetGuestDetails")
            assert "loop" in details.agent_details.storage_handlers
            await host.call("CreateSandbox", sandbox_id="s1")
            for options, status in ((["ro"], 1), (["noatime"], 0), (["ro"], 0)):
                storage = host.messages.Storage(
                    driver="loop", source=str(image), fstype="ext4", mount_point=POINT, options=options
                )
                spec = host.spec("sh", "-c", "cat /data/x || echo here > /data/x", container_id="c1")
                spec.Mounts.add(destination="/data", type="bind", source=POINT, options=["rbind"])
                await host.run("c1", spec=spec, storages=[storage])
                [entry] = [entry for entry in read_mountinfo() if entry.mount_point == POINT]
                assert entry.source.startswith("/dev/loop")
                assert entry.read_only == ("ro" in options)
                assert loops_of(image)
                assert await host.wait("c1") == status
                await host.remove("c1")
                assert not loops_of(image)
            await host.finish()
            assert guest_state(ignored=run_dir) == before
