"""CopyFile on the real agent, with the places, codes and permissions of each generation."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.privileged.agents import Host, Wire, agent_process, host_of

ROOT = Path("/run/kata-containers/shared/containers")
GO_DIRECTORY = 0x800001E8  # what the Go runtimes send for 0750


@pytest.fixture(params=["ttrpc", "grpc"])
def wire(request: pytest.FixtureRequest) -> Wire:
    wire: Wire = request.param
    return wire


@pytest.fixture
async def host(wire: Wire, busybox_rootfs: Path, run_dir: Path) -> AsyncIterator[Host]:
    with agent_process(run_dir) as agent:
        async with host_of(agent, wire, busybox_rootfs) as host:
            yield host
    shutil.rmtree(ROOT, ignore_errors=True)


def request(path: object, data: bytes = b"", **fields: Any) -> dict[str, Any]:
    """A whole file, unless `fields` say otherwise."""
    defaults = {"file_size": len(data), "file_mode": stat.S_IFREG | 0o640, "dir_mode": GO_DIRECTORY}
    return {"path": str(path), "data": data, **defaults, **fields}


def failure(host: Host) -> int:
    """UNKNOWN for an old host, INTERNAL for a later one."""
    return 2 if host.is_old else 13


async def test_a_file_in_pieces(host: Host) -> None:
    """Two mebibytes and a bit, as the runtimes cut them; the name appears with the last piece."""
    content = os.urandom((2 << 20) + 5)
    path = ROOT / "new/file"
    for offset in range(0, len(content), 1 << 20):
        assert not path.exists()
        piece = content[offset : offset + (1 << 20)]
        await host.call(
            "CopyFile", **request(path, piece, file_size=len(content), offset=offset, uid=7, gid=8)
        )
    assert path.read_bytes() == content
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 7, 8)
    parent = path.parent.stat()
    owner = (0, 0) if host.is_old else (7, 8)
    assert (stat.S_IMODE(parent.st_mode), parent.st_uid, parent.st_gid) == (0o750, *owner)
    assert os.listdir(path.parent) == ["file"]


async def test_the_kinds(host: Host) -> None:
    await host.call("CopyFile", **request(ROOT / "d", file_mode=stat.S_IFDIR | 0o1777))
    await host.call(
        "CopyFile", **request(ROOT / "d/link", b"/etc/x", file_size=0, file_mode=stat.S_IFLNK | 0o777)
    )
    await host.call("CopyFile", **request(ROOT / "d/plain", b"x", file_mode=0o4755))
    assert os.readlink(ROOT / "d/link") == "/etc/x"
    modes = [stat.S_IMODE((ROOT / name).lstat().st_mode) for name in ("d", "d/plain")]
    assert modes == ([0o777, 0o755] if host.is_old else [0o1777, 0o4755])


@pytest.mark.parametrize("kind", [stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
async def test_no_devices(host: Host, kind: int) -> None:
    code, message = await host.refused("CopyFile", **request(ROOT / "x", file_mode=kind | 0o666))
    assert (code, "such as devices" in message) == (failure(host), True)
    assert not (ROOT / "x").exists()


@pytest.mark.parametrize(
    "path", ["", "/", "/etc/x", "/run/../etc/x", f"{ROOT}/../../../../etc/x", "/runaway/x", "/run"]
)
async def test_paths_outside(host: Host, path: str) -> None:
    assert (await host.refused("CopyFile", **request(path, b"x")))[0] == failure(host)
    assert not Path("/etc/x").exists()
    assert not Path("/runaway").exists()


async def test_each_generation_has_its_root(host: Host, run_dir: Path) -> None:
    path = run_dir / "file"
    if host.is_old:
        await host.call("CopyFile", **request(path, b"x"))
        assert path.read_bytes() == b"x"
    else:
        code, message = await host.refused("CopyFile", **request(path, b"x"))
        assert (code, str(ROOT) in message) == (13, True)
        assert not path.exists()


async def test_cve_2026_41326_a_planted_link(host: Host, tmp_path: Path) -> None:
    """The host's own link leads to a place that is not its to write to."""
    link = request(ROOT / "evil", str(tmp_path).encode(), file_size=0, file_mode=stat.S_IFLNK | 0o777)
    await host.call("CopyFile", **link)
    for target in (request(ROOT / "evil/x", b"x"), request(ROOT / "evil/d", file_mode=stat.S_IFDIR | 0o755)):
        assert (await host.refused("CopyFile", **target))[0] == failure(host)
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"offset": -1},
        {"file_size": -1},
        {"offset": 5, "file_size": 6},
        {"file_size": 0},
        {"file_mode": stat.S_IFLNK | 0o777, "data": b""},
        {"file_mode": stat.S_IFLNK | 0o777, "data": b"a\0b"},
    ],
)
async def test_bad_fields_change_nothing(host: Host, fields: dict[str, Any]) -> None:
    assert (await host.refused("CopyFile", **{**request(ROOT / "new/x", b"x"), **fields}))[0] == failure(host)
    assert not (ROOT / "new").exists()


async def test_owners_beyond_31_bits_and_none(host: Host) -> None:
    """The wire's numbers are signed; the kernel's are not, and -1 leaves the owner as it is."""
    await host.call("CopyFile", **request(ROOT / "x", b"x", uid=-2, gid=-1))
    status = (ROOT / "x").stat()
    assert (status.st_uid, status.st_gid) == (0xFFFFFFFE, 0)


async def test_what_is_unfinished_goes_with_the_sandbox(host: Host) -> None:
    await host.call("CreateSandbox", sandbox_id="s1")
    await host.call("CopyFile", **request(ROOT / "x", b"x", file_size=2))
    assert len(list(ROOT.iterdir())) == 1
    await host.call("DestroySandbox")
    assert list(ROOT.iterdir()) == []
    if not host.is_old:
        assert await host.agent.ended() == 0
