"""The floor itself: what every other privileged test builds on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def test_the_mount_namespace_is_not_the_one_of_the_parent_process() -> None:
    assert os.stat("/proc/self/ns/mnt").st_ino != os.stat(f"/proc/{os.getppid()}/ns/mnt").st_ino


def test_cgroups_are_not_hybrid() -> None:
    assert not Path("/sys/fs/cgroup/unified/cgroup.controllers").exists()


def test_every_test_of_the_floor_is_marked(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("root") is not None


def test_the_root_filesystem_runs(busybox_rootfs: Path) -> None:
    done = subprocess.run(["chroot", busybox_rootfs, "/bin/echo", "hello"], capture_output=True, check=True)
    assert done.stdout == b"hello\n"


def test_run_dir_is_on_tmpfs_below_run(run_dir: Path) -> None:
    assert run_dir.parent == Path("/run")
    assert os.stat(run_dir).st_dev == os.stat("/run").st_dev != os.stat("/").st_dev
