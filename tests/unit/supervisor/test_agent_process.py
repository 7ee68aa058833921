"""The kata-agent command: arguments, start, what is loaded, and the orderly end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.__main__ import describe
from tests.unit.supervisor.agent_process import connects, output_of, running_agent

# What nobody needs before the first peer has spoken, each with the reason it is banned (design: an
# idle agent has 32 MB, and a guest without hardware virtualisation starts 15 times slower).
_NOT_AT_START = frozenset(
    {
        "ssl",
        "grpc",
        "pyroute2",
        "importlib.metadata",
        "psutil",
        "pyudev",
        "argparse",
        "tomllib",
        "google.protobuf",
    }
)

# An agent that, once it listens, prints which modules it has and asks itself to stop.
_TELL_MODULES = """
import agent.__main__ as main, json, os, signal, sys
from agent.transports.listener import Listener

start = Listener.start

async def start_and_tell(self):
    await start(self)
    loaded = sorted(name for name, module in sys.modules.items() if module is not None)
    print(json.dumps(loaded), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

Listener.start = start_and_tell
sys.exit(main.main([]))
"""


def test_no_module_is_loaded_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATA_AGENT_SERVER_ADDR", f"unix://{tmp_path}/a.sock")
    monkeypatch.setenv("KATA_AGENT_LOG_LEVEL", "error")
    done = subprocess.run(
        [sys.executable, "-I", "-c", _TELL_MODULES], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[0]))
    assert "asyncio" in loaded
    # `site` may load some of them for the machine's own .pth files: they are not the agent's doing.
    bare = subprocess.run(
        [sys.executable, "-I", "-c", "import sys, json; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (loaded - set(json.loads(bare.stdout))) & _NOT_AT_START == set()


def test_it_listens_and_a_signal_ends_it_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with running_agent(f"unix://{path}") as agent:
        assert connects(path)
        agent.send_signal(signal.SIGTERM)
        assert agent.stdout is not None
        said = agent.stdout.read()
        assert agent.wait(30) == 0
    assert '"reason": "signal"' in said
    assert said.endswith("kata-agent shutdown complete\n")
    assert not path.exists()


def test_a_signal_during_the_start_is_not_lost(tmp_path: Path) -> None:
    with running_agent(f"unix://{tmp_path}/a.sock") as agent:
        agent.send_signal(signal.SIGTERM)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(30) == 0


def test_an_abstract_address() -> None:
    with running_agent("unix://@pykata-test-abstract") as agent:
        agent.send_signal(signal.SIGINT)
        assert agent.wait(30) == 0


def test_an_address_that_cannot_be_had_is_one_sentence(tmp_path: Path) -> None:
    done = output_of(environ={"KATA_AGENT_SERVER_ADDR": f"unix://{tmp_path}/missing/a.sock"})
    assert done.returncode == 1
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith("kata-agent: ")
    assert "missing/a.sock" in last


def test_an_address_of_an_unknown_kind_is_refused() -> None:
    done = output_of(environ={"KATA_AGENT_SERVER_ADDR": "tcp://1.2.3.4:5"})
    assert done.returncode == 1
    assert "tcp://1.2.3.4:5" in done.stderr


def test_version_and_help() -> None:
    version = output_of("--version")
    assert (version.returncode, version.stdout.split()[0]) == (0, "kata-agent")
    for word in ("--help", "-h"):
        shown = output_of(word)
        assert shown.returncode == 0
        assert "KATA_AGENT_SERVER_ADDR" in shown.stdout


@pytest.mark.parametrize("arguments", [("--nonsense",), ("file",), ("--config",), ("--help", "-x")])
def test_wrong_arguments(arguments: tuple[str, ...]) -> None:
    done = output_of(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert arguments[-1] in done.stderr


def test_a_configuration_file_that_is_none(tmp_path: Path) -> None:
    done = output_of("--config", str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert "none.toml" in done.stderr


def test_errors_become_sentences() -> None:
    assert describe(OSError(16, "busy", "a", None, "b")) == "a -> b: busy"
    assert describe(OSError(16, "busy")) == "busy"
    assert describe(ValueError("odd")) == "ValueError: odd"
    assert describe(KeyboardInterrupt()) == "KeyboardInterrupt"
