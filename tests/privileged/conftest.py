"""The privileged floor: root, in a mount namespace of its own.

Before the first test runs, the whole test process moves into a private mount namespace with its
own tmpfs on /run and without the cgroup v2 tree on `/sys/fs/cgroup/unified`, whose presence
("hybrid mode") crun refuses. Nothing that these tests mount is ever seen outside, and all of it goes
with the process.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.privileged.containers import Runtime, machine_state, running_runtime

FLOOR = Path(__file__).parent

# <sched.h>, <sys/mount.h>
CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x4000, 0x40000
MNT_DETACH = 0x2

_libc = ctypes.CDLL(None, use_errno=True)

# What a container's command in these tests may be; all of it is one static binary.
BUSYBOX_APPLETS = (
    "sh", "true", "false", "cat", "echo", "sleep", "id", "env", "ls", "kill", "mount", "mknod", "dd",
    "tty", "stty", "seq", "touch", "mkdir", "rm", "ps", "hostname", "head", "tail", "wc", "yes", "test",
    "printf", "readlink", "stat", "sha256sum", "pwd", "nohup", "setsid", "ip", "nc", "df", "grep",
)  # fmt: skip


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def _mount(source: bytes, target: bytes, fstype: bytes, flags: int, data: bytes = b"") -> None:
    _check(_libc.mount(source, target, fstype, ctypes.c_ulong(flags), data), f"mount on {target.decode()}")


def _enter_private_mount_namespace() -> None:
    """Move this process (its one thread) into the floor's own mount namespace."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare(CLONE_NEWNS)")
    _mount(b"none", b"/", b"", MS_REC | MS_PRIVATE)
    if os.path.ismount("/sys/fs/cgroup/unified"):
        _check(_libc.umount2(b"/sys/fs/cgroup/unified", MNT_DETACH), "umount /sys/fs/cgroup/unified")
        # On pure v1, crun 1.8.1 leaves plain files there: let them land on a tmpfs of this floor's.
        _mount(b"tmpfs", b"/sys/fs/cgroup/unified", b"tmpfs", MS_NOSUID | MS_NODEV)
    _mount(b"tmpfs", b"/run", b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=755")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this floor's tests, and enter the namespace before any test of any floor has run.

    Early, because only the calling thread moves: a thread that an earlier test left running would
    go on mounting in the machine's namespace.
    """
    ours = [item for item in items if FLOOR in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.root)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Enter the namespace if a test of this floor is going to run (after -k and -m have chosen)."""
    will_run = any(FLOOR in item.path.parents for item in session.items)
    if will_run and os.geteuid() == 0 and not session.config.option.collectonly:
        _enter_private_mount_namespace()


@pytest.fixture(scope="session", autouse=True)
def agents_leave_empty_directories() -> Iterator[None]:
    """What agents by hand keep below /run is empty when all of them have ended."""
    yield
    for name in ("crun", "consoles", ""):
        with suppress(FileNotFoundError):
            Path("/run/kata-agent", name).rmdir()


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A directory of this test alone below /run (tmpfs), short enough for unix socket paths."""
    path = Path(tempfile.mkdtemp(prefix="t", dir="/run"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def busybox_rootfs(tmp_path: Path) -> Path:
    """A root filesystem that holds a static busybox and little else; this test's own, writable."""
    root = tmp_path / "rootfs"
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "run"):
        (root / name).mkdir(parents=True)
    shutil.copy2("/bin/busybox", root / "bin/busybox")
    for applet in BUSYBOX_APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    return root


@pytest.fixture
async def runtime(run_dir: Path, busybox_rootfs: Path) -> AsyncIterator[Runtime]:
    """Real containers on a root filesystem of this test's own, which must leave the machine as it was."""
    before = machine_state(ignored_below=run_dir)
    async with running_runtime(run_dir, busybox_rootfs) as runtime:
        descriptors = machine_state(ignored_below=run_dir)["descriptors"]
        yield runtime
        await runtime.teardown.aclose()
        after = machine_state(ignored_below=run_dir)
        assert after.pop("descriptors") - descriptors == set()
    before.pop("descriptors")
    assert after == before
