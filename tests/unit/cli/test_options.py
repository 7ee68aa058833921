"""What the commands make of their arguments, before anything is started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from host.channel import AgentCallError
from host.cli import COMMANDS, cli
from host.cli_inspect import duration, status_text
from host.cli_options import command_after, environment
from host.cli_run import run_options
from host.cli_stop import signal_number
from host.container_config import Mount
from host.errors import HostError, InvalidInput, VmFailed
from host.exit_status import failure_of
from host.network import PublishedPort
from host.run_options import Network, RunOptions, check_name, parse_memory
from host.state import Phase, SandboxRecord, SandboxStore
from host.terminal import DetachKeys
from host.volumes import VolumeStore


@pytest.mark.parametrize(
    ("text", "mib"),
    [("512", 512), ("512M", 512), ("512m", 512), ("2G", 2048), ("1GiB", 1024), ("524288k", 512)],
)
def test_memory_sizes(text: str, mib: int) -> None:
    assert parse_memory(text) == mib


@pytest.mark.parametrize("text", ["", "lots", "-1", "1.5G", "64M", "M", "0x100", "512 Q"])
def test_what_is_no_memory_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="memory size"):
        parse_memory(text)


@given(st.text(max_size=70))
def test_a_name_is_safe_in_a_path_or_refused(name: str) -> None:
    try:
        check_name(name)
    except InvalidInput:
        return
    assert Path("/run", name).parent == Path("/run")
    assert name not in ("", ".", "..")
    assert name.isascii()


@pytest.mark.parametrize(
    ("words", "command"), [((), ()), (("--", "ls", "--"), ("ls", "--")), (("ls", "--"), ("ls", "--"))]
)
def test_one_separator_is_taken_away(words: tuple[str, ...], command: tuple[str, ...]) -> None:
    assert command_after(words) == command


def test_variables_come_from_the_argument_or_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "a=b")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert environment(["A=1", "HERE", "NOWHERE", "EMPTY="]) == ("A=1", "HERE=a=b", "EMPTY=")
    with pytest.raises(InvalidInput, match="sets no variable"):
        environment(["=1"])


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("sigterm", 15), ("1", 1), ("SIGHUP", 1)])
def test_signals_have_names_and_numbers(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize("name", ["", "NOPE", "0", "99", "-9"])
def test_what_is_no_signal_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="not a signal"):
        signal_number(name)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (AgentCallError(13, "exit status 127: no `x` in $PATH"), ("no `x` in $PATH", 127)),
        (AgentCallError(13, "exit status 126: not executable"), ("not executable", 126)),
        (AgentCallError(9, "it is stopped"), ("the agent refused: it is stopped", 125)),
        (VmFailed("it ended", "look there"), ("it ended: look there", 125)),
    ],
)
def test_the_exit_status_of_a_failure(error: BaseException, told: tuple[str, int]) -> None:
    assert failure_of(error) == told


@given(st.lists(st.binary(max_size=6)))
def test_what_is_typed_before_the_detach_keys_gets_through(pieces: list[bytes]) -> None:
    keys = DetachKeys(b"\x10\x11")
    passed = b""
    pressed = False
    for piece in pieces:
        out, pressed = keys.filter(piece)
        passed += out
        if pressed:
            break
    typed = b"".join(pieces)
    before, found, _ = typed.partition(b"\x10\x11")
    assert pressed == bool(found)
    assert passed == (before if found or not typed.endswith(b"\x10") else typed[:-1])


def test_a_lone_first_key_is_held_back_until_the_next() -> None:
    keys = DetachKeys(b"\x10\x11")
    assert keys.filter(b"a\x10") == (b"a", False)
    assert keys.filter(b"b") == (b"\x10b", False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 minute"), (7300, "2 hours"), (90000, "1 day"), (-3, "0 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_status_says_since_when() -> None:
    options = RunOptions("/r", ("x",))
    running = SandboxRecord("i", "n", options, phase=Phase.RUNNING, started_at=100.0)
    ended = SandboxRecord("i", "n", options, phase=Phase.EXITED, exit_status=3, finished_at=100.0)
    assert status_text(running, 160.0) == "up 1 minute"
    assert status_text(ended, 105.0) == "exited (3) 5 s ago"
    assert status_text(SandboxRecord("i", "n", options, phase=Phase.DEAD), 0) == "dead"


def given_options(tmp_path: Path, **changes: Any) -> RunOptions:
    """What `pykata run` makes of its options."""
    given: dict[str, Any] = {
        **{"name": "", "tty": False, "memory": "512", "env": (), "volumes": (), "tmpfs": (), "ports": ()},
        "network": Network.USER,
    }
    return run_options(str(tmp_path), ("sh",), "warning", given | changes)


def test_volumes_are_made_and_paths_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    options = given_options(
        tmp_path, volumes=("data1:/data1", "./here:/here:ro"), tmpfs=("/a/x", "/b/x:size=1m")
    )
    volume = VolumeStore(tmp_path / "data").get("data1")
    assert options.volumes == ("data1",)
    assert options.mounts == (
        Mount("/data1", str(volume.path), "bind", ("rbind", "rprivate", "rw")),
        Mount("/here", str(tmp_path / "here"), "bind", ("rbind", "rprivate", "ro")),
        Mount("/a/x", "tmpfs-0", "ephemeral", ("rbind", "nosuid", "nodev", "noexec")),
        Mount("/b/x", "tmpfs-1", "ephemeral", ("rbind", "nosuid", "nodev", "noexec", "size=1m")),
    )


def test_ports_are_understood(tmp_path: Path) -> None:
    assert given_options(tmp_path, ports=("8080:80",)).ports == (PublishedPort(8080, 80),)
    with pytest.raises(InvalidInput, match="without a network"):
        given_options(tmp_path, ports=("8080:80",), network=Network.NONE)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"volumes": ("a1:/x", "b1:/x")}, "/x"),
        ({"volumes": ("nonsense",)}, "-v nonsense"),
        ({"volumes": ("/no/such/place:/x",)}, "/no/such/place"),
        ({"tmpfs": ("relative",)}, "--tmpfs relative"),
        ({"ports": ("http",)}, "no published port"),
        ({"name": "-x"}, "cannot name"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        given_options(tmp_path, **changes)
    assert SandboxStore().all() == []


def invoke(*words: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli, words, standalone_mode=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exception is None
    assert result.output.startswith(f"Usage: cli {command}")


def test_an_empty_machine(directories: Path) -> None:
    assert invoke("ps", "-a").output.split() == ["ID", "NAME", "STATUS", "ROOTFS", "COMMAND"]
    assert json.loads(invoke("ps", "--json").output) == []
    assert json.loads(invoke("volume", "ls", "--json").output) == []
    assert invoke("rm", "-f", "nobody").return_value == 0
    assert not (directories / "run").exists()


@pytest.mark.parametrize(
    "words", [("rm", "x"), ("stop", "x"), ("logs", "x"), ("inspect", "x"), ("console", "x")]
)
def test_a_sandbox_that_is_not_there_is_one_error(words: tuple[str, ...]) -> None:
    assert isinstance(invoke(*words).exception, HostError)


def test_volumes_are_listed_inspected_and_removed(directories: Path) -> None:
    place = VolumeStore(directories / "data").ensure("data1").path
    assert invoke("volume", "ls", "-q").output == "data1\n"
    (document,) = json.loads(invoke("volume", "inspect", "data1").output)
    assert (document["path"], document["used_by"]) == (str(place), [])
    assert invoke("volume", "rm", "data1").return_value == 0
    assert not place.exists()


def test_the_help_imports_nothing_that_is_slow() -> None:
    script = (
        "import sys; from host.cli import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('asyncio', 'google.protobuf', 'grpc', 'qemu', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_command_or_option_is_a_usage_error() -> None:
    words = [sys.executable, "-c", "from host.cli import main; main()", "run", "--nope", "x", "y"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "Traceback" not in done.stderr
