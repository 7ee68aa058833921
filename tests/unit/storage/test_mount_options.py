"""Mount options, word by word and as a whole."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidRequest
from agent.linux.mount import MountFlag
from agent.storage.mount_options import (
    _CLEAR,
    _PROPAGATION,
    _SET,
    MountOptions,
    named_number,
    named_size,
    without,
)

WORDS = sorted({*_SET, *_CLEAR, *_PROPAGATION})


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_taken_out_of_the_data(word: str) -> None:
    assert MountOptions.parse(["foo", word, "bar"]).data == "foo,bar"


@pytest.mark.parametrize(
    ("items", "flags", "clear"),
    [
        ((), 0, 0),
        (("ro",), MountFlag.RDONLY, 0),
        (("ro", "rw"), 0, MountFlag.RDONLY),
        (("rw", "ro"), MountFlag.RDONLY, 0),
        (("rbind",), MountFlag.BIND | MountFlag.REC, 0),
        (("nosuid", "nodev", "noexec"), MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC, 0),
        (("defaults",), 0, 0),
        (("atime", "suid"), 0, MountFlag.NOATIME | MountFlag.NOSUID),
    ],
)
def test_flags_are_set_and_cleared_in_order(items: tuple[str, ...], flags: int, clear: int) -> None:
    options = MountOptions.parse(items)
    assert (options.flags, options.clear) == (flags, clear)


def test_propagation_is_kept_apart_from_the_flags() -> None:
    options = MountOptions.parse(["rbind", "rslave", "shared"])
    assert options.flags == MountFlag.BIND | MountFlag.REC
    assert options.propagation == (MountFlag.SLAVE | MountFlag.REC, MountFlag.SHARED)


def test_an_item_of_data_passes_through_whole() -> None:
    item = "trans=virtio,version=9p2000.L,cache=mmap"
    assert MountOptions.parse([item, "nodev", "msize=8192"]).data == f"{item},msize=8192"


def test_notes_to_the_agent_are_dropped() -> None:
    items = ["io.katacontainers.fs-opt.overlay-rw", "lowerdir=/a", "X-kata.overlay-lower"]
    assert MountOptions.parse(items).data == "lowerdir=/a"


def test_data_may_fill_a_page_less_its_closing_byte() -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    assert len(MountOptions.parse(["x" * (page - 1)]).data) == page - 1
    with pytest.raises(InvalidRequest, match=str(page - 1)):
        MountOptions.parse(["x" * page])


@pytest.mark.parametrize("item", ["loop", "size=\0"])
def test_what_the_kernel_cannot_take_is_refused(item: str) -> None:
    with pytest.raises(InvalidRequest):
        MountOptions.parse([item])


@given(st.lists(st.sampled_from(WORDS) | st.text(st.characters(codec="utf-8"), max_size=20), max_size=20))
def test_any_list_is_parsed_or_refused(items: list[str]) -> None:
    try:
        options = MountOptions.parse(items)
    except InvalidRequest:
        assert "loop" in items or any("\0" in item for item in items)
        return
    assert not options.flags & options.clear
    assert options.data == ",".join(
        item for item in items if item and item not in WORDS and not item.startswith("X-kata.")
    )


@pytest.mark.parametrize(
    ("items", "size"),
    [
        (("pagesize=2097152,size=4194304",), 2 << 20),
        (("size=4194304", "pagesize=2Mi"), 2 << 20),
        (("pagesize=1G",), 1 << 30),
        (("pagesize=1GiB", "pagesize=64k"), 64 << 10),
        (("size=3",), None),
        (("size-1=3", "xpagesize=2"), None),
    ],
)
def test_a_size_is_found_by_name(items: tuple[str, ...], size: int | None) -> None:
    assert named_size(items, "pagesize") == size


@pytest.mark.parametrize("text", ["", "abc", "-1", "1X", "1 G", "0x10", "²"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="pagesize"):
        named_size([f"pagesize={text}"], "pagesize")


@pytest.mark.parametrize("text", ["", "abcde", "8", "-1", "0o7"])
def test_what_is_no_octal_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="mode"):
        named_number([f"mode={text}"], "mode", base=8)


def test_numbers_are_read_in_their_base() -> None:
    assert named_number(["mode=0755"], "mode", base=8) == 0o755
    assert named_number(["fsgid=0123"], "fsgid") == 123
    assert named_number(["fsgid"], "fsgid") is None


def test_named_options_are_taken_out_wherever_they_stand() -> None:
    assert without(["size=1,pagesize=2", "nodev", "mode=1"], "size", "mode") == ("pagesize=2", "nodev")
