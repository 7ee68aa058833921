"""mountinfo: parsing, and the order in which mounts can be taken away."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.linux.mountinfo import mounts_below, parse_line, read_mountinfo


def test_a_line_with_everything() -> None:
    line = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 shared:7 - ext3 /dev/ro\011ot rw,errors=continue"
    entry = parse_line(line)
    assert (entry.mount_id, entry.parent_id, entry.device) == (36, 35, (98, 0))
    assert (entry.root, entry.mount_point) == ("/mnt1", "/mnt 2")
    assert entry.options == ("rw", "noatime")
    assert entry.propagation == ("master:1", "shared:7")
    assert (entry.fstype, entry.source) == ("ext3", "/dev/ro\tot")
    assert entry.super_options == ("rw", "errors=continue")
    assert not entry.read_only


def test_a_private_mount_has_no_tags_and_either_ro_counts() -> None:
    assert parse_line("1 0 0:1 / / ro - rootfs rootfs rw").propagation == ()
    assert parse_line("1 0 0:1 / / ro - rootfs rootfs rw").read_only
    assert parse_line("1 0 0:1 / / rw - rootfs rootfs ro").read_only


@pytest.mark.parametrize("line", ["", "x", "1 0 0:1 / / rw", "1 0 0:1 / / rw - ext4", "a b c d e f - g h i"])
def test_a_broken_line_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"mountinfo|invalid literal"):
        parse_line(line)


@given(st.text())
def test_any_line_is_parsed_or_refused(line: str) -> None:
    with contextlib.suppress(ValueError):
        parse_line(line)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_every_path_survives_the_kernels_escapes(path: str) -> None:
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in path)
    assert parse_line(f"1 0 0:1 / {escaped} rw - t s rw").mount_point == path


def test_the_real_table_has_a_root() -> None:
    assert any(entry.mount_point == "/" for entry in read_mountinfo())


def test_a_table_with_newlines_and_other_breaks_in_names(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes("1 0 0:1 / /a\\012b rw - t s rw\n2 1 0:2 / /c\x0b\x85d rw - t s rw\n".encode())
    assert [entry.mount_point for entry in read_mountinfo(str(table))] == ["/a\nb", "/c\x0b\x85d"]


def table(*rows: tuple[int, int, str]) -> list[str]:
    return [f"{mount_id} {parent} 0:1 / {point} rw - t s rw" for mount_id, parent, point in rows]


def points_below(path: str, lines: list[str]) -> list[int]:
    return [entry.mount_id for entry in mounts_below(path, [parse_line(line) for line in lines])]


def test_mounts_come_before_what_they_stand_on() -> None:
    lines = table((1, 0, "/"), (2, 1, "/a"), (3, 2, "/a/b"), (4, 2, "/a/c"), (5, 1, "/ab"), (6, 3, "/a/b"))
    assert points_below("/a", lines) == [6, 4, 3, 2]
    assert points_below("/a/", lines) == [6, 4, 3, 2]
    assert points_below("/a/b", lines) == [6, 3]
    assert points_below("/", lines) == [6, 4, 3, 5, 2, 1]
    assert points_below("/nothing", lines) == []


def test_a_tree_moved_under_a_newer_mount_still_comes_off_top_first() -> None:
    lines = table((1, 1, "/"), (2, 9, "/new/old"), (3, 2, "/new/old/x"), (9, 1, "/new"))
    assert points_below("/new", lines) == [3, 2, 9]
