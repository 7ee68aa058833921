"""New CPUs reach containers from the root down."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.containers import cpusets
from agent.containers.cpusets import spread_cpus


def lists(root: Path) -> dict[str, str]:
    found = {str(path.parent.relative_to(root)): path.read_text() for path in root.rglob("cpuset.cpus")}
    return dict(sorted(found.items()))


def build(root: Path, **cpus: str) -> None:
    for path, text in cpus.items():
        directory = root / path.replace("_", "/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cpuset.cpus").write_text(text)


@pytest.mark.parametrize(("own", "expected"), [("", "0-3"), ("1", "1")])
def test_v1(tmp_path: Path, own: str, expected: str) -> None:
    build(tmp_path, cpuset="0-3\n", cpuset_pod="0\n", cpuset_pod_a="0\n", cpuset_pod_a_c1=own or "0\n")
    spread_cpus(str(tmp_path), "/pod/a/c1", "0-3", own)
    assert lists(tmp_path) == {
        "cpuset": "0-3\n",
        "cpuset/pod": "0-3",
        "cpuset/pod/a": "0-3",
        "cpuset/pod/a/c1": expected,
    }


def test_v2_lists_that_follow_their_parents_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu\n")
    build(tmp_path, pod="\n", pod_a="0\n", pod_a_c1="\n")
    spread_cpus(str(tmp_path), "/pod/a/c1", "0-3", "")
    assert lists(tmp_path) == {"pod": "\n", "pod/a": "0-3", "pod/a/c1": "\n"}


def test_parents_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, cpuset_pod="0", cpuset_pod_c1="0")
    order: list[str] = []
    monkeypatch.setattr(cpusets, "_change", lambda file, cpus: order.append(f"{file.parent.name} {cpus}"))
    spread_cpus(str(tmp_path), "/pod/c1", "0-3", "2")
    assert order == ["pod 0-3", "c1 2"]


def test_a_container_that_has_gone(tmp_path: Path) -> None:
    build(tmp_path, cpuset_pod="0")
    spread_cpus(str(tmp_path), "/pod/c1", "0-3", "")
    assert lists(tmp_path) == {"cpuset/pod": "0-3"}
