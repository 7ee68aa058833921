"""The command lines of the two programs called virtiofsd."""

from __future__ import annotations

from pathlib import Path

from host.vm.virtiofsd import virtiofsd_command


def test_the_one_in_c() -> None:
    command = virtiofsd_command(Path("/bin/virtiofsd"), "c", Path("/a,b"), 5)
    assert command == [
        *("/bin/virtiofsd", "--fd=5", "-f"),
        *("-o", "source=/a\\,b", "-o", "cache=auto", "-o", "no_posix_lock", "-o", "sandbox=chroot"),
    ]


def test_the_one_in_rust() -> None:
    command = virtiofsd_command(Path("/bin/virtiofsd"), "rust", Path("/a,b"), 5)
    assert command == [
        "/bin/virtiofsd",
        "--fd=5",
        "--shared-dir",
        "/a,b",
        "--cache",
        "auto",
        "--sandbox",
        "chroot",
    ]
