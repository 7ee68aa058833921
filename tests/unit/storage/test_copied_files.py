"""Files that a host pushes: whole or not at all, and never outside their root."""

from __future__ import annotations

import asyncio
import ctypes
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidRequest, KernelRefused
from agent.storage.copied_files import Attributes, CopiedFiles, Destination, Piece

FILE = Attributes(0o640)

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # <linux/fcntl.h>, <linux/fs.h>
PARENTS = Attributes(0o751)


class Guest:
    """A root of a test's own, and a place outside it that must stay as it is."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.outside = directory / "outside"
        self.root.mkdir()
        self.outside.mkdir()
        (self.outside / "kept").write_text("kept")
        self.files = CopiedFiles()

    def at(self, path: str) -> Destination:
        return Destination.parse(str(self.root), f"{self.root}/{path}")

    async def write(
        self, path: str, data: bytes, *, offset: int = 0, size: int | None = None, mode: int = 0o640
    ) -> None:
        piece = Piece(offset, data, len(data) if size is None else size)
        await self.files.write(self.at(path), piece, Attributes(mode), parents=PARENTS)

    async def make_directory(self, path: str, mode: int = 0o755) -> None:
        await self.files.make_directory(self.at(path), Attributes(mode), parents=PARENTS)

    async def link(self, path: str, target: str) -> None:
        await self.files.make_link(self.at(path), target.encode(), FILE, parents=PARENTS)

    def hidden(self) -> list[Path]:
        return list(self.root.rglob(".copying-*"))


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


async def test_a_file_in_one_piece(guest: Guest) -> None:
    await guest.write("a/b/file", b"text")
    assert (guest.root / "a/b/file").read_bytes() == b"text"
    assert mode_of(guest.root / "a/b/file") == 0o640
    assert mode_of(guest.root / "a") == mode_of(guest.root / "a/b") == 0o751
    assert guest.hidden() == []


async def test_an_empty_file(guest: Guest) -> None:
    await guest.write("file", b"")
    assert (guest.root / "file").read_bytes() == b""


async def test_a_file_appears_with_its_last_piece(guest: Guest) -> None:
    """Until then the old one is there; nobody but root could read what has come."""
    await guest.write("file", b"old")
    await guest.write("file", b"new ", size=8)
    assert (guest.root / "file").read_bytes() == b"old"
    assert [mode_of(path) for path in guest.hidden()] == [0o600]
    await guest.write("file", b"text", offset=4, size=8)
    assert (guest.root / "file").read_bytes() == b"new text"
    assert guest.hidden() == []


async def test_a_piece_may_be_sent_again(guest: Guest) -> None:
    await guest.write("file", b"ab", size=6)
    for _ in range(2):
        await guest.write("file", b"cd", offset=2, size=6)
    await guest.write("file", b"ef", offset=4, size=6)
    assert (guest.root / "file").read_bytes() == b"abcdef"


async def test_the_first_piece_begins_anew(guest: Guest) -> None:
    """A longer attempt that was given up leaves nothing behind in the file."""
    await guest.write("file", b"a longer beginning", size=100)
    await guest.write("file", b"short", size=6)
    await guest.write("file", b"!", offset=5, size=6)
    assert (guest.root / "file").read_bytes() == b"short!"
    assert guest.hidden() == []


async def test_names_that_differ_in_their_ending_do_not_meet(guest: Guest) -> None:
    for name in ("a.b", "a.c", "a.tmp"):
        await guest.write(name, name.encode(), size=6 if name != "a.tmp" else 8)
    for name in ("a.c", "a.tmp", "a.b"):
        await guest.write(name, b"end", offset=len(name), size=len(name) + 3)
    assert {path.name: path.read_text() for path in guest.root.iterdir()} == {
        "a.b": "a.bend",
        "a.c": "a.cend",
        "a.tmp": "a.tmpend",
    }


@pytest.mark.parametrize(
    ("offset", "data", "size", "reason"),
    [
        (5, b"x", 6, "nothing has come"),
        (-1, b"x", 6, "negative"),
        (0, b"x", -1, "negative"),
        (0, b"xyz", 2, "beyond"),
        (1 << 62, b"x", 6, "beyond"),
    ],
)
async def test_pieces_that_cannot_be(guest: Guest, offset: int, data: bytes, size: int, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        await guest.write("new/file", data, offset=offset, size=size)
    assert list(guest.root.iterdir()) == []


async def test_a_wrong_piece_does_not_end_the_file(guest: Guest) -> None:
    await guest.write("file", b"ab", size=4)
    with pytest.raises(InvalidRequest, match="gap from 2 to 3"):
        await guest.write("file", b"d", offset=3, size=4)
    with pytest.raises(InvalidRequest, match="was to have 4 bytes and now 5"):
        await guest.write("file", b"c", offset=2, size=5)
    await guest.write("file", b"cd", offset=2, size=4)
    assert (guest.root / "file").read_bytes() == b"abcd"


async def test_k6367_k13764_directories_that_are_there_keep_mode_and_owner(guest: Guest) -> None:
    (guest.root / "a").mkdir(mode=0o700)
    before = (guest.root / "a").stat()
    await guest.write("a/b/file", b"")
    await guest.link("a/link", "b/file")
    after = (guest.root / "a").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert mode_of(guest.root / "a/b") == 0o751


async def test_the_umask_has_no_say(guest: Guest) -> None:
    old = os.umask(0o077)
    try:
        await guest.write("a/file", b"", mode=0o666)
        await guest.make_directory("d", 0o1777)
    finally:
        os.umask(old)
    assert mode_of(guest.root / "a/file") == 0o666
    assert mode_of(guest.root / "d") == 0o1777


async def test_a_directory_keeps_its_content_and_gets_a_new_mode(guest: Guest) -> None:
    await guest.make_directory("d", 0o755)
    await guest.write("d/file", b"x")
    await guest.make_directory("d", 0o2770)
    assert mode_of(guest.root / "d") == 0o2770
    assert (guest.root / "d/file").read_bytes() == b"x"


KINDS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_text("old"),
    "directory": lambda path: (path / "below").mkdir(parents=True),
    "link": lambda path: path.symlink_to("../outside/kept"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to a directory": lambda path: path.symlink_to("../outside"),
    "fifo": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("before", KINDS)
async def test_a_file_replaces_anything(guest: Guest, before: str) -> None:
    KINDS[before](guest.root / "x")
    await guest.write("x", b"new")
    assert stat.S_ISREG((guest.root / "x").lstat().st_mode)
    assert (guest.root / "x").read_bytes() == b"new"
    assert (guest.outside / "kept").read_text() == "kept"


@pytest.mark.parametrize("before", KINDS)
async def test_a_link_replaces_anything(guest: Guest, before: str) -> None:
    KINDS[before](guest.root / "x")
    await guest.link("x", "/etc/passwd")
    assert os.readlink(guest.root / "x") == "/etc/passwd"
    assert (guest.outside / "kept").read_text() == "kept"
    assert guest.hidden() == []


@pytest.mark.parametrize("before", [kind for kind in KINDS if kind != "directory"])
async def test_a_directory_replaces_anything_else(guest: Guest, before: str) -> None:
    KINDS[before](guest.root / "x")
    await guest.make_directory("x", 0o750)
    assert stat.S_ISDIR((guest.root / "x").lstat().st_mode)
    assert mode_of(guest.outside) == 0o755
    assert os.listdir(guest.outside) == ["kept"]


@pytest.mark.parametrize("target", [b"", b"a\0b"])
async def test_links_without_a_target(guest: Guest, target: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no usable target"):
        await guest.files.make_link(guest.at("x"), target, FILE, parents=PARENTS)
    assert list(guest.root.iterdir()) == []


@pytest.mark.parametrize("link", ["../outside", "{outside}", "a/../../outside", "/", "/proc/self/root"])
async def test_cve_2026_41326_no_link_leads_out_of_the_root(guest: Guest, link: str) -> None:
    """Whatever is sent through such a link is refused, and nothing is made at its other end."""
    await guest.make_directory("a")
    await guest.link("evil", link.format(outside=guest.outside))
    for attempt in (
        guest.write("evil/file", b"x"),
        guest.write("evil/new/file", b"x"),
        guest.make_directory("evil/new"),
        guest.link("evil/new", "target"),
    ):
        with pytest.raises(KernelRefused):
            await attempt
    assert os.listdir(guest.outside) == ["kept"]
    assert sorted(os.listdir(guest.root)) == ["a", "evil"]


async def test_links_within_the_root_are_followed(guest: Guest) -> None:
    """As a ConfigMap's `..data` is one."""
    await guest.make_directory("..2026")
    await guest.link("..data", "..2026")
    await guest.make_directory("deep/er")
    await guest.link("deep/er/up", "../../..data")
    await guest.write("..data/key", b"1")
    await guest.write("deep/er/up/sub/key", b"2")
    assert (guest.root / "..2026/key").read_bytes() == b"1"
    assert (guest.root / "..2026/sub/key").read_bytes() == b"2"


async def test_a_dangling_link_on_the_way_is_no_directory_to_be_made(guest: Guest) -> None:
    await guest.link("way", "nowhere")
    with pytest.raises(KernelRefused, match="EEXIST"):
        await guest.write("way/file", b"x")
    assert os.listdir(guest.root) == ["way"]


async def test_an_unfinished_file_that_somebody_replaced_is_not_written_to(guest: Guest) -> None:
    """By a link, or a hard link, to a file that root alone may write."""
    replacements: list[tuple[Callable[[Path, Path], object], str]] = [
        (os.symlink, "ELOOP"),
        (os.link, "EEXIST"),
    ]
    for number, (replace, reason) in enumerate(replacements):
        await guest.write(f"file{number}", b"ab", size=4)
        (hidden,) = guest.hidden()
        hidden.unlink()
        replace(guest.outside / "kept", hidden)
        with pytest.raises(KernelRefused, match=reason):
            await guest.write(f"file{number}", b"cd", offset=2, size=4)
        assert (guest.outside / "kept").read_text() == "kept"
        assert not hidden.is_symlink()
        assert not hidden.exists()
        with pytest.raises(InvalidRequest, match="nothing has come"):
            await guest.write(f"file{number}", b"cd", offset=2, size=4)


async def test_a_race_between_link_and_directory_is_never_lost(guest: Guest) -> None:
    """Somebody swaps a directory on the way for a link to the outside, as fast as he can."""
    (guest.root / "swap").mkdir()
    (guest.root / "link").symlink_to(guest.outside)
    stop = asyncio.Event()

    def swap() -> None:
        first, second = (os.fsencode(guest.root / name) for name in ("swap", "link"))
        while not stop.is_set():
            assert LIBC.renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE) == 0

    swapping = asyncio.create_task(asyncio.to_thread(swap))
    outcomes = set()
    for number in range(300):
        try:
            await guest.write(f"swap/new{number}/file", b"x" * 100)
            outcomes.add("written")
        except KernelRefused:
            outcomes.add("refused")
    stop.set()
    await swapping
    assert outcomes == {"written", "refused"}
    assert os.listdir(guest.outside) == ["kept"]


async def test_a_full_disk_leaves_nothing(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    await guest.write("file", b"ab", size=4)

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        with pytest.raises(KernelRefused, match=r"copying to .*/root/file failed: .*ENOSPC"):
            await guest.write("file", b"cd", offset=2, size=4)
    assert os.listdir(guest.root) == []


async def test_unfinished_files_are_bounded_and_can_be_discarded(guest: Guest) -> None:
    for number in range(70):
        await guest.write(f"file{number}", b"a", size=2)
    assert len(guest.hidden()) == 64
    with pytest.raises(InvalidRequest):
        await guest.write("file0", b"b", offset=1, size=2)
    await guest.write("file69", b"b", offset=1, size=2)
    await guest.files.discard_unfinished()
    assert [path.name for path in guest.root.iterdir()] == ["file69"]


@pytest.mark.parametrize(
    "path", ["", "/", "/run", "/run/", "/running/x", "/run/../etc/x", "/etc/x", "/run/a\0b"]
)
def test_paths_outside(path: str) -> None:
    with pytest.raises(InvalidRequest, match="is not below /run"):
        Destination.parse("/run", path)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/run/x", ("x",)),
        ("//run//a/./b/../c/", ("a", "c")),
        ("run/x", ("x",)),
        ("/run/..data", ("..data",)),
        ("/etc/../run/x", ("x",)),
    ],
)
def test_paths_inside(path: str, names: tuple[str, ...]) -> None:
    assert Destination.parse("/run", path).names == names


@given(st.text(st.sampled_from("/.ar\0un"), max_size=30))
def test_no_path_has_a_way_out(path: str) -> None:
    try:
        names = Destination.parse("/run", f"/run{path}").names
    except InvalidRequest:
        return
    assert names
    assert not {"", ".", ".."} & set(names)
    assert "\0" not in "".join(names)
