"""agent.pid1: single steps against files of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import LaunchFailed
from agent.pid1 import drivers, first_steps, power_off
from agent.processes.reaper import Reaper


@pytest.mark.parametrize(
    ("text", "name"), [("box\n", "box"), ("  box other", "box"), ("\n", "localhost"), (None, "localhost")]
)
def test_hostname(tmp_path: Path, text: str | None, name: str) -> None:
    file = tmp_path / "hostname"
    if text is not None:
        file.write_text(text)
    assert first_steps.read_hostname(str(file)) == name


def test_ptmx_becomes_a_link_whatever_was_there(tmp_path: Path) -> None:
    (tmp_path / "ptmx").write_text("")
    first_steps.link_ptmx(str(tmp_path))
    first_steps.link_ptmx(str(tmp_path))
    assert (tmp_path / "ptmx").readlink() == Path("pts/ptmx")


def test_missing_standard_streams_are_opened() -> None:
    script = (
        "import os; os.close(0); os.close(1); os.close(2)\n"
        "from agent.pid1.first_steps import open_standard_streams\n"
        "open_standard_streams('/nonexistent/console')\n"
        "fd = os.open('/', os.O_RDONLY)\n"
        "os._exit(fd * 10 + [os.fstat(n).st_rdev for n in range(3)].count(os.stat('/dev/null').st_rdev))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 33


def test_last_words_reach_the_console(tmp_path: Path) -> None:
    console = tmp_path / "console"
    console.write_text("")
    power_off.say_on_console("no \u2603 today", console=str(console))
    assert console.read_bytes() == "kata-agent: no \u2603 today\r\n".encode()


def test_last_words_without_a_console_go_to_the_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    power_off.say_on_console("the end", console="/nonexistent/console")
    assert capfd.readouterr().err == "kata-agent: the end\r\n"


@pytest.fixture
def modprobe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A modprobe that records its arguments and ends as `status` beside it says."""
    tool = tmp_path / "modprobe"
    tool.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho no such thing >&2\nexit $(cat {tmp_path}/status)\n'
    )
    tool.chmod(0o755)
    (tmp_path / "status").write_text("0")
    monkeypatch.setattr(drivers, "_MODPROBE", str(tool))
    return tmp_path


async def test_only_missing_drivers_are_loaded(modprobe: Path) -> None:
    (modprobe / "sys/module/virtio_pci").mkdir(parents=True)
    (modprobe / "sys/module/sd_mod").mkdir()
    reaper = Reaper()
    reaper.start()
    try:
        names = ("virtio_pci", "sd-mod", "overlay", "9pnet_virtio")
        await drivers.load_drivers(reaper, names, sysfs_root=str(modprobe / "sys"))
        await drivers.load_drivers(reaper, ("virtio_pci",), sysfs_root=str(modprobe / "sys"))
    finally:
        reaper.stop()
    assert (modprobe / "calls").read_text() == "-a -b overlay 9pnet_virtio\n"


async def test_a_driver_that_does_not_load_is_logged(
    modprobe: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (modprobe / "status").write_text("1")
    reaper = Reaper()
    reaper.start()
    try:
        await drivers.load_drivers(reaper, ("overlay",), sysfs_root=str(modprobe))
    finally:
        reaper.stop()
    (record,) = caplog.records
    assert record.getMessage() == "modprobe ended with status 1"
    assert record.__dict__["error"] == "no such thing"


async def test_a_guest_without_modules_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drivers, "_MODPROBE", "/nonexistent/modprobe")
    await drivers.load_drivers(Reaper(), ("overlay",), sysfs_root="/nonexistent")
    assert caplog.messages == ["no modprobe in this guest"]


async def test_a_modprobe_that_cannot_run_is_logged(
    modprobe: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise LaunchFailed("cannot run modprobe: Permission denied")

    monkeypatch.setattr(drivers, "run", refuse)
    await drivers.load_drivers(Reaper(), ("overlay",), sysfs_root=str(modprobe))
    assert caplog.messages == ["loading kernel modules failed"]


def test_entropy_of_the_host_reaches_the_pool(tmp_path: Path) -> None:
    (tmp_path / "hwrng").write_bytes(bytes(range(200)))
    drivers.seed_random(str(tmp_path / "hwrng"), str(tmp_path / "pool"), size_bytes=16)
    assert (tmp_path / "pool").read_bytes() == bytes(range(16))


def test_a_host_without_entropy_changes_nothing(tmp_path: Path) -> None:
    drivers.seed_random(str(tmp_path / "hwrng"), str(tmp_path / "pool"))
    assert not (tmp_path / "pool").exists()


def test_keyboard_signals_are_ignored() -> None:
    script = (
        "import os, signal\n"
        "from agent.pid1.first_steps import ignore_keyboard\n"
        "ignore_keyboard()\n"
        "for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):\n"
        "    os.kill(os.getpid(), number)\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n")
    assert os.getpid() != 1
