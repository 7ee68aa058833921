"""A sandbox in the background, as later commands see it, on either wire."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from host.run_options import Wire
from tests.vm.cli.command_line import PATIENCE_S, CommandLine

BOX = "box"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Box:
    """The sandbox, and the port of the host's that leads to its port 80."""

    id: str
    port: int


@pytest.fixture(scope="module", params=list(Wire))
def box(request: pytest.FixtureRequest, pykata: CommandLine) -> Iterator[Box]:
    """A sandbox with a volume twice, a tmpfs, a port and a console."""
    port = free_port()
    options = [
        *("--wire", request.param, "--debug-console", "--hostname", "boxhost", "-e", "COLOUR=red"),
        *("-v", "vol:/vol", "-v", "vol:/vol-ro:ro", "--tmpfs", "/scratch:size=16m", "-p", f"{port}:80"),
    ]
    script = "echo first; echo bad >&2; exec sleep 1000"
    sandbox = pykata.background(BOX, *options, command=("sh", "-c", script))
    yield Box(sandbox.id, port)
    assert pykata("rm", "-f", BOX).status == 0


def run_in(pykata: CommandLine, script: str, *options: str, typed: bytes = b"") -> bytes:
    """What a script in the container writes; it must succeed."""
    ended = pykata("exec", *options, BOX, "--", "sh", "-c", script, typed=typed)
    assert ended.status == 0, ended.errors
    return ended.output


def test_exec_gives_the_commands_status(pykata: CommandLine, box: Box) -> None:
    assert pykata("exec", BOX, "--", "sh", "-c", "exit 37").status == 37
    assert pykata("exec", BOX, "--", "sh", "-c", "kill -9 $$").status == 137


def test_a_command_that_cannot_start(pykata: CommandLine, box: Box) -> None:
    missing = pykata("exec", BOX, "--", "no-such-command")
    assert (missing.status, missing.output) == (127, b"")
    assert "no-such-command" in missing.errors
    not_executable = pykata("exec", BOX, "--", "/etc/passwd")
    assert not_executable.status == 126
    assert len(not_executable.errors.splitlines()) == 1


def test_a_megabyte_arrives_whole(pykata: CommandLine, box: Box) -> None:
    expected = b"".join(b"%d\n" % number for number in range(1, 200_001))
    assert run_in(pykata, "seq 1 200000") == expected


def test_a_hundred_megabytes_arrive_whole(pykata: CommandLine, box: Box) -> None:
    # Zeros would hide a lost or doubled piece of the same length elsewhere: every MiB begins with its number.
    script = "i=0; while [ $i -lt 100 ]; do printf %016d $i; head -c 1048560 /dev/zero; i=$((i + 1)); done"
    process = pykata.start("exec", BOX, "--", "sh", "-c", script)
    assert process.stdout
    seen = hashlib.sha256()
    while piece := process.stdout.read(1 << 20):
        seen.update(piece)
    process.communicate(timeout=PATIENCE_S)
    expected = hashlib.sha256()
    for number in range(100):
        expected.update(b"%016d" % number + bytes(1048560))
    assert process.returncode == 0
    assert seen.hexdigest() == expected.hexdigest()


def test_input_goes_in_and_ends(pykata: CommandLine, box: Box) -> None:
    typed = os.urandom(300_000)
    assert run_in(pykata, "cat", "-i", typed=typed) == typed


def test_user_directory_and_environment(pykata: CommandLine, box: Box) -> None:
    script = "id -u; id -g; pwd; echo $COLOUR $SHAPE; hostname"
    said = run_in(pykata, script, "-u", "guest", "-w", "/tmp", "-e", "SHAPE=round").split(b"\n")
    assert said[:5] == [b"1000", b"1000", b"/tmp", b"red round", b"boxhost"]


def test_a_volume_is_one_directory_on_both_sides(pykata: CommandLine, box: Box) -> None:
    place = json.loads(pykata("volume", "inspect", "vol").output)[0]["path"]
    inside, outside = secrets.token_hex(8), secrets.token_hex(8)
    with open(f"{place}/outside", "w") as file:
        file.write(outside)
    assert (
        run_in(pykata, f"echo {inside} > /vol/inside; cat /vol/outside /vol-ro/outside")
        == (outside * 2).encode()
    )
    with open(f"{place}/inside") as file:
        assert file.read() == f"{inside}\n"
    refused = pykata("exec", BOX, "--", "sh", "-c", "echo x > /vol-ro/x")
    assert refused.status != 0
    assert not os.path.exists(f"{place}/x")


def test_a_volume_in_use_is_not_removed(pykata: CommandLine, box: Box) -> None:
    refused = pykata("volume", "rm", "vol")
    assert refused.status == 1
    assert f"in use by sandbox {box.id}" in refused.errors


def test_the_guest_itself_has_the_share_and_no_volume(pykata: CommandLine, box: Box) -> None:
    assert pykata("console", BOX, "--", "ls", "/vol").status == 1
    listed = pykata("console", BOX, "--", "ls", "/run/kata-containers/shared/containers")
    assert f"{box.id}-".encode() in listed.output
    # Read-only also for the guest as a whole, not for the container alone.
    script = "touch /run/kata-containers/shared/containers/*-vol-ro/x"
    assert pykata("console", BOX, "--", "sh", "-c", script).status != 0


def test_the_tmpfs_has_its_size(pykata: CommandLine, box: Box) -> None:
    assert b"size=16384k" in run_in(pykata, "grep ' /scratch tmpfs ' /proc/mounts")


def test_a_published_port_leads_into_the_container(pykata: CommandLine, box: Box) -> None:
    nonce = secrets.token_hex(8)
    server = pykata.start("exec", BOX, "--", "sh", "-c", f"echo up; echo {nonce} | nc -l -p 80")
    assert server.stdout
    assert server.stdout.readline() == b"up\n"
    answer = b""
    while not answer:  # `up` comes just before nc listens; slirp then answers with an early end
        with socket.create_connection(("127.0.0.1", box.port), timeout=PATIENCE_S) as connection:
            answer = connection.recv(100)
    assert answer == f"{nonce}\n".encode()
    server.communicate(timeout=PATIENCE_S)


def test_logs_keep_the_streams_apart_and_follow(pykata: CommandLine, box: Box) -> None:
    ended = pykata("logs", BOX)
    assert (ended.output, ended.errors) == (b"first\n", "bad\n")
    follower = pykata.start("logs", "-f", BOX)
    assert follower.stdout
    assert follower.stdout.readline() == b"first\n"
    follower.send_signal(signal.SIGTERM)
    follower.communicate(timeout=PATIENCE_S)


def test_ps_and_inspect_know_it(pykata: CommandLine, box: Box) -> None:
    assert BOX in pykata("ps").output.decode()
    document = pykata.inspect(BOX)
    assert (document["id"], document["phase"]) == (box.id, "running")
    assert document["options"]["volumes"] == ["vol", "vol"]


def test_ctl_reaches_the_agent_by_the_sandboxes_name(pykata: CommandLine, box: Box) -> None:
    for wire in Wire:
        answer = pykata("ctl", "--wire", wire, BOX, "GetGuestDetails")
        assert "9p" in json.loads(answer.output)["agent_details"]["storage_handlers"], answer.errors


def test_a_terminal(pykata: CommandLine, box: Box) -> None:
    master, slave = os.openpty()
    try:
        shell = pykata.start("exec", "-it", BOX, "--", "sh", stdin=slave, stdout=slave)
        os.write(master, b"PS1=pro'mpt-'; stty size; test -t 1 && echo is-a-'tty'\n")
        assert b"is-a-tty" in read_until(master, b"is-a-tty")
        os.write(master, b"sh -c 'echo rea\"\"dy; exec sleep 1000'\n")
        read_until(master, b"ready")
        os.write(master, b"\x03")  # ends the sleep, not the shell and not us
        read_until(master, b"prompt-")
        os.write(master, b"exit 9\n")
        shell.communicate(timeout=PATIENCE_S)
        assert shell.returncode == 9
    finally:
        os.close(master)
        os.close(slave)


def test_a_second_sandbox_of_that_name_is_refused(pykata: CommandLine, box: Box) -> None:
    ended = pykata("run", "--name", BOX, str(pykata.rootfs), "--", "true")
    assert ended.status == 125
    assert f"the name {BOX} is taken by sandbox {box.id}" in ended.errors


def read_until(fd: int, mark: bytes) -> bytes:
    """What a terminal shows up to `mark`."""
    seen = b""
    while mark not in seen:
        seen += os.read(fd, 4096)
    return seen
