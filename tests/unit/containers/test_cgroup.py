"""What is removed of cgroup trees, on directories that stand for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.containers.cgroup import Cgroup
from agent.errors import AlreadyExists, InvalidRequest


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    for controller in ("cpu", "memory"):
        (tmp_path / controller).mkdir()
    return tmp_path


def make(root: Path, path: str) -> None:
    """What crun 1.8.1 makes of a container's cgroup on v1."""
    for hierarchy in ("cpu", "memory", "unified"):
        (root / hierarchy / path).mkdir(parents=True, exist_ok=True)
    (root / "unified" / path / "cgroup.procs").write_text("1\n")


def left(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_all_that_came_with_the_container_goes(v1: Path) -> None:
    cgroup = Cgroup("/pods/a/c1", str(v1))
    cgroup.reserve()
    make(v1, "pods/a/c1/inner")
    make(v1, "pods/a/c1")
    for _ in range(2):
        cgroup.remove_leftovers()
        assert left(v1) == ["cpu", "memory", "unified"]


def test_directories_above_that_were_there_stay(v1: Path) -> None:
    (v1 / "cpu/pods").mkdir()
    cgroup = Cgroup("/pods/a/c1", str(v1))
    cgroup.reserve()
    make(v1, "pods/a/c1")
    cgroup.remove_leftovers()
    assert left(v1) == ["cpu", "cpu/pods", "memory", "unified"]


def test_directories_above_stay_until_the_last_container_has_gone(v1: Path) -> None:
    one, two = Cgroup("/pods/one", str(v1)), Cgroup("/pods/two", str(v1))
    one.reserve()
    make(v1, "pods/one")
    two.reserve()  # crun is about to make it, below the directory that came with the first
    one.remove_leftovers()
    assert (v1 / "cpu/pods").is_dir()
    make(v1, "pods/two")
    two.remove_leftovers()
    assert left(v1) == ["cpu", "memory", "unified"]


def test_a_directory_above_that_somebody_else_uses_stays(v1: Path) -> None:
    cgroup = Cgroup("/pods/c", str(v1))
    cgroup.reserve()
    make(v1, "pods/c")
    (v1 / "cpu/pods/other").mkdir()
    cgroup.remove_leftovers()
    assert left(v1) == ["cpu", "cpu/pods", "cpu/pods/other", "memory", "unified"]


def test_version_2_has_one_hierarchy(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "pods").mkdir()
    cgroup = Cgroup("/pods/c", str(tmp_path))
    cgroup.reserve()
    (tmp_path / "pods/c/sub").mkdir(parents=True)
    cgroup.remove_leftovers()
    assert left(tmp_path) == ["cgroup.controllers", "pods"]


def test_a_machine_without_cgroups(tmp_path: Path) -> None:
    cgroup = Cgroup("/pods/c", str(tmp_path / "none"))
    cgroup.reserve()
    cgroup.remove_leftovers()


def test_somebody_else_s_cgroup_is_left_alone(v1: Path) -> None:
    (v1 / "memory/system.slice/sub").mkdir(parents=True)
    (v1 / "memory/system.slice/sub/cgroup.procs").write_text(f"{os.getpid()}\n")
    cgroup = Cgroup("/system.slice", str(v1))
    before = left(v1)
    with pytest.raises(AlreadyExists, match=r"run in the cgroup '/system\.slice'"):
        cgroup.reserve()
    cgroup.remove_leftovers()  # and this test's process is still alive
    assert left(v1) == before
    with pytest.raises(InvalidRequest, match="root cgroup"):
        Cgroup("/", str(v1))


def test_plain_files_beside_version_1_do_not_count(v1: Path) -> None:
    make(v1, "c")
    Cgroup("/c", str(v1)).reserve()
