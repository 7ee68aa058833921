"""The same containers in other guests: the root in memory, where pivot_root cannot work, and cgroup v1."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.vm.containers.guests import BOX, WIRES, Guest, guest_machine, run_inside, running, sandbox_in

pytestmark = pytest.mark.asyncio(loop_scope="package")

LIMIT_BYTES = 48 << 20
CGROUP = f"pod/{BOX}"  # crun makes the directory above, too, but never removes it


async def containers_work(guest: Guest, limit_file: str) -> None:
    """On each wire: a memory limit, output, statuses; and nothing is left in the guest."""
    before = await guest.state()
    for wire in WIRES:
        host = guest.hosts[wire]
        spec = host.spec("sh", "-c", "echo said; read line; exit 37", container_id=BOX)
        spec.Linux.Resources.Memory.Limit = LIMIT_BYTES
        spec.Linux.CgroupsPath = f"/{CGROUP}"
        async with running(host, spec=spec):
            assert await host.read(BOX) == b"said\n"
            assert await guest.shell.run(f"cat {limit_file}") == str(LIMIT_BYTES)
            assert await run_inside(host, "hostname; kill -9 $$", exec_id="kills") == (137, b"sandbox\n")
            await host.call("WriteStdin", container_id=BOX, exec_id=BOX, data=b"end\n")
            assert await host.wait(BOX) == 37
    assert await guest.state() == before


async def test_the_root_in_memory(count_boot: Callable[[], None]) -> None:
    async with (
        guest_machine("initrd", count_boot, form="initrd", memory_mib=768) as machine,
        sandbox_in(machine) as guest,
    ):
        assert await guest.shell.run("awk '$2 == \"/\" { print $1 }' /proc/mounts") in {"rootfs", "none"}
        await containers_work(guest, f"/sys/fs/cgroup/{CGROUP}/memory.max")


async def test_cgroup_v1(count_boot: Callable[[], None]) -> None:
    words = ("agent.unified_cgroup_hierarchy=false",)
    async with guest_machine("v1", count_boot, kernel_params=words) as machine, sandbox_in(machine) as guest:
        assert await guest.shell.run("test ! -e /sys/fs/cgroup/cgroup.controllers && echo v1") == "v1"
        await containers_work(guest, f"/sys/fs/cgroup/memory/{CGROUP}/memory.limit_in_bytes")
