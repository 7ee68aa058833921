"""Opening beneath a root, and removing trees that fight back; none of this needs root."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agent.linux.paths import open_beneath, open_directory, remove_tree, visit_tree


def read_beneath(root: Path, path: str, *, in_root: bool = False, follow_links: bool = True) -> str:
    descriptor = open_beneath(str(root), path, os.O_RDONLY, in_root=in_root, follow_links=follow_links)
    with open(descriptor) as file:
        return file.read()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "secret").write_text("inside")
    (root / "up").symlink_to("../secret")
    (root / "absolute").symlink_to("/secret")
    (root / "near").symlink_to("sub/../secret")
    (root / "magic").symlink_to("/proc/self/root/secret")
    return root


def test_plain_paths_and_links_that_stay_inside(root: Path) -> None:
    assert read_beneath(root, "secret") == "inside"
    assert read_beneath(root, "near") == "inside"


@pytest.mark.parametrize("path", ["../secret", "sub/../../secret", "up", "absolute", "/secret", "magic"])
def test_what_would_leave_fails(root: Path, path: str) -> None:
    with pytest.raises(OSError, match=path) as failure:
        read_beneath(root, path)
    assert failure.value.errno == errno.EXDEV


@pytest.mark.parametrize("path", ["../secret", "/secret", "up", "absolute", "/sub/../../../secret"])
def test_in_a_root_of_its_own_the_same_paths_lead_inside(root: Path, path: str) -> None:
    assert read_beneath(root, path, in_root=True) == "inside"


def test_links_can_be_refused_altogether(root: Path) -> None:
    with pytest.raises(OSError, match="near") as failure:
        read_beneath(root, "near", follow_links=False)
    assert failure.value.errno == errno.ELOOP


def test_the_descriptor_is_not_inherited_and_nul_is_refused(root: Path) -> None:
    with open_directory(str(root)) as directory:
        descriptor = open_beneath(directory, "new", os.O_CREAT | os.O_WRONLY, 0o600)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)
        with pytest.raises(ValueError, match="NUL"):
            open_beneath(directory, "secret\0x", os.O_RDONLY)
    assert (root / "new").stat().st_mode & 0o777 == 0o600


def test_a_tree_is_removed_and_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    (root / "sub/dir-link").symlink_to(tmp_path, target_is_directory=True)
    (root / "sub/a/b").mkdir(parents=True)
    os.mkfifo(root / "sub/a/fifo")
    remove_tree(f"{root}/")
    assert not root.exists()
    assert (tmp_path / "secret").read_text() == "outside"


def test_a_link_a_file_and_nothing_at_all(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root, target_is_directory=True)
    remove_tree(str(link))
    assert root.is_dir()
    remove_tree(str(root / "secret"))
    assert not (root / "secret").exists()
    remove_tree(str(root / "secret"))


@pytest.mark.parametrize("path", ["/", "", "/tmp/..", "."])
def test_what_names_no_entry_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no entry"):
        remove_tree(path)


def test_a_tree_deeper_than_paths_and_descriptors_go(tmp_path: Path) -> None:
    top = tmp_path / "deep"
    top.mkdir()
    current = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("a-long-name", dir_fd=current)
        below = os.open("a-long-name", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = below
    os.close(current)
    descriptors = len(os.listdir("/proc/self/fd"))
    remove_tree(str(top))
    assert not top.exists()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_directory_that_moves_away_stops_the_visit(tmp_path: Path) -> None:
    (tmp_path / "tree/a/b").mkdir(parents=True)
    (tmp_path / "tree/a/b/file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").touch()
    visited = []

    def move_away(directory: int, name: str) -> None:
        visited.append(name)
        os.rename(tmp_path / "tree/a/b", tmp_path / "elsewhere/b")

    def leave(directory: int, name: str) -> None:
        pytest.fail(f"left {name} after it had moved")

    with open_directory(str(tmp_path / "tree")) as top, pytest.raises(OSError, match="moved away"):
        visit_tree(top, move_away, leave)
    assert visited == ["file"]


def test_a_visit_tells_each_directory_after_its_contents(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x").touch()
    (tmp_path / "a/y").touch()
    order: list[str] = []
    with open_directory(str(tmp_path)) as top:
        visit_tree(top, lambda _, name: order.append(name), lambda _, name: order.append(f"{name}/"))
    assert order == ["y", "x", "b/", "a/"]
