"""However a run ends, everything of it goes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from host.process_identity import ProcessIdentity
from host.state import Phase, Sandbox
from tests.vm.cli.command_line import PATIENCE_S, CommandLine


def pids_of(sandbox: Sandbox) -> list[ProcessIdentity]:
    """The monitor and the processes of the VM."""
    record = sandbox.read()
    assert record.monitor
    return [record.monitor, *record.processes]


def qemu_of(sandbox: Sandbox) -> int:
    """The pid of QEMU."""
    for process in sandbox.read().processes:
        with open(f"/proc/{process.pid}/comm") as comm:
            if comm.read().startswith("qemu"):
                return process.pid
    raise AssertionError("no QEMU is recorded")


def running(pykata: CommandLine, name: str, *options: str) -> tuple[subprocess.Popen[bytes], Sandbox]:
    """A run in the foreground whose command has started."""
    process = pykata.start(
        "run", "--name", name, *options, str(pykata.rootfs), "--", "sh", "-c", "echo up; exec sleep 1000"
    )
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    return process, pykata.store.find(name)


def kill_command_line(process: subprocess.Popen[bytes], sandbox: Sandbox) -> None:
    process.kill()


def kill_monitor(process: subprocess.Popen[bytes], sandbox: Sandbox) -> None:
    record = sandbox.read()
    assert record.monitor
    os.kill(record.monitor.pid, signal.SIGKILL)


def kill_qemu(process: subprocess.Popen[bytes], sandbox: Sandbox) -> None:
    os.kill(qemu_of(sandbox), signal.SIGKILL)


Kill = Callable[[subprocess.Popen[bytes], Sandbox], None]
KILLS = [kill_command_line, kill_monitor, kill_qemu]
# What the command line says in each case, if it is there to say anything.
LAST_WORDS = {kill_monitor: "the monitor of the sandbox was killed", kill_qemu: "ended unexpectedly"}


@pytest.mark.parametrize("kill", KILLS)
def test_rm_leaves_nothing_of_what_was_killed(pykata: CommandLine, kill: Kill) -> None:
    process, sandbox = running(pykata, "victim", "-v", "vol:/vol")
    processes = pids_of(sandbox)
    kill(process, sandbox)
    _, errors = process.communicate(timeout=PATIENCE_S)
    if kill in LAST_WORDS:
        assert process.returncode == 125
        assert LAST_WORDS[kill] in errors.decode()
    sandbox.wait_for_owner()  # the others see the death by themselves
    assert sandbox.read().phase in (Phase.DEAD, Phase.FAILED)
    assert pykata("rm", "victim").status == 0
    assert pykata.left(processes) == []


@pytest.mark.parametrize("kill", KILLS)
def test_a_killed_run_with_rm_leaves_nothing_by_itself(pykata: CommandLine, kill: Kill) -> None:
    process, sandbox = running(pykata, "victim", "--rm")
    processes = pids_of(sandbox)
    kill(process, sandbox)
    process.communicate(timeout=PATIENCE_S)
    sandbox.wait_for_owner()
    assert pykata("rm", "-f", "victim").status == 0
    assert pykata.left(processes) == []


def test_rm_f_ends_what_runs(pykata: CommandLine) -> None:
    sandbox = pykata.background("busy")
    processes = pids_of(sandbox)
    refused = pykata("rm", "busy")
    assert refused.status == 1
    assert "is running" in refused.errors
    assert pykata("rm", "-f", "busy").status == 0
    assert pykata.left(processes) == []


def test_stop_keeps_the_record_and_the_log_until_rm(pykata: CommandLine) -> None:
    sandbox = pykata.background("stopped", command=("sh", "-c", "echo words; exec sleep 1000"))
    processes = pids_of(sandbox)
    assert pykata("stop", "stopped").status == 0
    record = sandbox.read()
    assert (record.phase, record.exit_status) == (Phase.EXITED, 128 + signal.SIGKILL)
    assert all(process.ends_within(2) for process in processes)
    assert pykata("logs", "stopped").output == b"words\n"
    refused = pykata("exec", "stopped", "--", "true")
    assert refused.status == 125
    assert "is not running" in refused.errors
    assert pykata("wait", "stopped").output == b"137\n"
    assert pykata("rm", "stopped").status == 0
    assert pykata.left(processes) == []


@pytest.mark.parametrize(
    "step", ["Preparing the root filesystem", "Booting the VM", "Creating the container"]
)
def test_ctrl_c_while_it_starts(pykata: CommandLine, step: str) -> None:
    process = pykata.start("run", "--rm", "--name", "given-up", str(pykata.rootfs), "--", "sleep", "1000")
    assert process.stderr
    for line in process.stderr:
        if step in line.decode():
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert errors.decode().splitlines()[-1] == "pykata: interrupted"
    assert pykata.left([]) == []


def test_ctrl_c_while_it_runs(pykata: CommandLine) -> None:
    process, sandbox = running(pykata, "interrupted", "--rm")
    processes = pids_of(sandbox)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.SIGINT
    assert pykata.left(processes) == []


def test_a_run_that_a_signal_of_its_own_ends(pykata: CommandLine) -> None:
    ended = pykata("run", "--rm", str(pykata.rootfs), "--", "sh", "-c", "kill -9 $$")
    assert ended.status == 137, ended.errors
    assert pykata.left([]) == []


def test_a_command_that_does_not_exist(pykata: CommandLine) -> None:
    ended = pykata("run", "--rm", "-q", str(pykata.rootfs), "--", "no-such-command")
    assert ended.status == 127
    assert "no-such-command" in ended.errors
    assert len(ended.errors.splitlines()) == 1
    assert pykata.left([]) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["/no/such/rootfs", "--", "true"], "does not exist"),
        (["-v", "/no/such/source:/x", "ROOTFS", "--", "true"], "/no/such/source"),
        (["-v", "nonsense", "ROOTFS", "--", "true"], "-v nonsense"),
        (["--name", "../evil", "ROOTFS", "--", "true"], "cannot name a sandbox"),
        (["--memory", "lots", "ROOTFS", "--", "true"], "memory size"),
        (["--user", "nobody-here", "ROOTFS", "--", "true"], "nobody-here"),
        (["ROOTFS"], "no command"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    pykata: CommandLine, words: list[str], complaint: str
) -> None:
    rootfs = str(pykata.rootfs)
    ended = pykata("run", "--rm", "-q", *[rootfs if word == "ROOTFS" else word for word in words])
    assert ended.status == 125
    assert complaint in ended.errors
    assert len(ended.errors.splitlines()) == 1
    assert pykata.left([]) == []
