"""Terminals that arrive over a socket."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from pathlib import Path

import pytest

from agent.containers.console import console_socket, set_window_size
from agent.errors import KernelRefused, LaunchFailed


async def test_a_descriptor_arrives(tmp_path: Path) -> None:
    directory = tmp_path / "consoles"
    async with console_socket(str(directory)) as console:
        assert directory.stat().st_mode & 0o777 == 0o700
        with socket.socket(socket.AF_UNIX) as sender, (tmp_path / "file").open("w") as file:
            sender.connect(console.path)
            socket.send_fds(sender, [b"/dev/pts/0"], [file.fileno()])
            received = await console.receive_master(5)
            try:
                assert os.path.sameopenfile(received, file.fileno())
                assert not os.get_inheritable(received)
            finally:
                os.close(received)
    assert list(directory.iterdir()) == []


async def test_none_arrives(tmp_path: Path) -> None:
    async with console_socket(str(tmp_path)) as console:
        with pytest.raises(LaunchFailed, match=r"no terminal arrived from the runtime within 0\.05 s"):
            await console.receive_master(0.05)
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(console.path)
            with pytest.raises(LaunchFailed, match="no terminal arrived"):
                await console.receive_master(0.05)
    assert list(tmp_path.iterdir()) == []


async def test_a_message_without_one(tmp_path: Path) -> None:
    async with console_socket(str(tmp_path)) as console:
        with socket.socket(socket.AF_UNIX) as sender:
            sender.connect(console.path)
            sender.sendall(b"/dev/pts/0")
            with pytest.raises(LaunchFailed, match="a message without a terminal"):
                await console.receive_master(5)


async def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / ("x" * 120)):
        with pytest.raises(KernelRefused, match="cannot listen on the console socket"):
            async with console_socket(str(directory)):
                pass


@pytest.mark.parametrize(("asked", "given"), [((24, 80), (24, 80)), ((0, 70000), (0, 65535))])
def test_window_size(asked: tuple[int, int], given: tuple[int, int]) -> None:
    master, slave = os.openpty()
    try:
        set_window_size(master, *asked)
        size = struct.unpack("HHHH", fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(8)))
        assert size == (*given, 0, 0)
    finally:
        os.close(master)
        os.close(slave)


def test_the_size_of_something_that_is_no_terminal(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(KernelRefused, match=r"TIOCSWINSZ.*ENOTTY"):
        set_window_size(file.fileno(), 1, 1)
