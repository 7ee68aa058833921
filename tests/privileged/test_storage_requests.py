"""Storages as hosts ask an agent for them: what their containers see, and what is left afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.privileged.agents import Host, Wire, agent_process, guest_state, host_of

GUEST = Path("/run/kata-containers")


@pytest.fixture
async def host(wire: Wire, busybox_rootfs: Path, run_dir: Path) -> AsyncIterator[Host]:
    """A host with a sandbox; after the test the guest is as it was before it."""
    with agent_process(run_dir) as agent:
        async with host_of(agent, wire, busybox_rootfs) as host:
            before = guest_state(ignored=run_dir)
            await host.call("CreateSandbox", sandbox_id="s1")
            yield host
            await host.finish()
            assert guest_state(ignored=run_dir) == before


def memory(host: Host, place: str, *options: str, **fields: bool) -> object:
    """A storage in memory."""
    return host.messages.Storage(
        driver="ephemeral",
        source="tmpfs",
        fstype="tmpfs",
        mount_point=f"{GUEST}/{place}",
        options=options,
        **fields,
    )


@pytest.mark.parametrize("wire", ["ttrpc"])
async def test_a_shared_storage_outlives_its_containers(host: Host) -> None:
    shared, own = GUEST / "sandbox/storage/shared", GUEST / "sandbox/storage/own"
    storages = [memory(host, "sandbox/storage/shared", shared=True), memory(host, "sandbox/storage/own")]
    await host.create("c1", "true", storages=storages)
    (shared / "kept").touch()
    await host.remove("c1")
    assert (shared / "kept").exists()
    assert not own.exists()
    await host.create("c2", "true", storages=storages[:1])
    assert (shared / "kept").exists()
    await host.remove("c2")
    assert shared.is_mount()


@pytest.mark.parametrize("wire", ["ttrpc"])
async def test_a_shared_storage_goes_with_a_creation_that_fails(host: Host) -> None:
    storages = [memory(host, "sandbox/storage/shared", shared=True)]
    spec = host.spec("/no/such/command", container_id="c1")
    await host.refused("CreateContainer", container_id="c1", exec_id="c1", OCI=spec, storages=storages)
    assert not (GUEST / "sandbox").exists()


@pytest.mark.parametrize("wire", ["ttrpc", "grpc"])
async def test_a_root_filesystem_that_is_an_overlay(host: Host) -> None:
    bundle, lower = GUEST / "c1", host.rootfs
    before = {path.relative_to(lower) for path in lower.rglob("*")}
    storage = host.messages.Storage(
        driver="overlayfs",
        source="none",
        fstype="overlay",
        mount_point=f"{bundle}/rootfs",
        options=[f"lowerdir={lower}", "io.katacontainers.fs-opt.overlay-rw"],
    )
    host.rootfs = bundle / "rootfs"
    await host.run("c1", "sh", "-c", "echo hello > /written && cat /written", storages=[storage])
    assert await host.wait("c1") == 0
    assert await host.output("c1") == b"hello\n"
    assert (bundle / "upper/written").read_text() == "hello\n"
    await host.remove("c1")
    assert not bundle.exists()
    assert {path.relative_to(lower) for path in lower.rglob("*")} == before
