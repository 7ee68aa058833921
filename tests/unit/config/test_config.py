"""agent.config: what the kernel command line, a file and the environment make of the defaults."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import (
    AgentConfig,
    ConfigError,
    config_file_argument,
    config_file_parameter,
    load_config,
    parse_kernel_command_line,
)
from agent.config_values import read_duration


@pytest.mark.parametrize(
    ("cmdline", "field", "value"),
    [
        ("", "server_addr", "vsock://-1:1024"),
        ("agent.log=debug", "log_level", "debug"),
        ("agent.log=warn", "log_level", "warning"),
        ("agent.log=panic", "log_level", "critical"),
        ("agent.log=info agent.log=trace", "log_level", "trace"),
        ("agent.log_vport=1025", "log_vport", 1025),
        ("agent.debug_console", "debug_console", True),
        ("agent.debug_console_vport=1026", "debug_console_vport", 1026),
        ("agent.debug_console_vport=1026", "debug_console", True),
        ("agent.devmode", "log_level", "debug"),
        ("agent.trace", "trace", "isolated"),
        ("agent.trace=collated", "trace", "collated"),
        ("agent.trace=true", "trace", "isolated"),
        ("agent.use_vsock=true", "use_vsock", True),
        ("agent.hotplug_timeout=500ms", "hotplug_timeout_s", 0.5),
        ("agent.hotplug_timeout=1m30s", "hotplug_timeout_s", 90.0),
        ("agent.hotplug_timeout=7", "hotplug_timeout_s", 7.0),
        ("agent.launch_process_timeout=9", "launch_timeout_s", 9.0),
        ("agent.container_pipe_size=65536", "container_pipe_size", 65536),
        ("agent.unified_cgroup_hierarchy=false", "unified_cgroup_hierarchy", False),
        ("systemd.unified_cgroup_hierarchy=0", "unified_cgroup_hierarchy", False),
        ("agent.unified_cgroup_hierarchy=0 cgroup_no_v1=all", "unified_cgroup_hierarchy", True),
        ("agent.server_addr=unix:///run/a=b.sock", "server_addr", "unix:///run/a=b.sock"),
        ("agent.https_proxy=http://p:1/?a=b", "https_proxy", "http://p:1/?a=b"),
        ("agent.guest_components_procs=none", "guest_components_procs", "none"),
        ("agent.secure_storage_integrity=false", "secure_storage_integrity", False),
        ("agent.mem_agent_enable=1", "mem_agent_enable", True),
    ],
)
def test_one_word(cmdline: str, field: str, value: object) -> None:
    config = parse_kernel_command_line(f"root=/dev/vda {cmdline} quiet\n")
    assert getattr(config, field) == value
    assert config.warnings == ()


def test_memory_agent_words_set_its_own_fields() -> None:
    config = parse_kernel_command_line(
        "agent.mem_agent_compact_psi_percent_limit=7 agent.mem_agent_memcg_swap=true"
    )
    assert config.mem_agent.compact_psi_percent_limit == 7
    assert config.mem_agent.memcg_swap is True


@pytest.mark.parametrize(
    "word",
    [
        "agent.log=loud",
        "agent.log",
        "agent.log_vport=-1",
        "agent.log_vport=4294967296",
        "agent.hotplug_timeout=0",
        "agent.hotplug_timeout=-3s",
        "agent.hotplug_timeout=3x",
        "agent.hotplug_timeout=",
        "agent.container_pipe_size=1k",
        "agent.unified_cgroup_hierarchy=maybe",
        "agent.server_addr=",
        "agent.debug_console=please",
        "agent.nothing_like_it=1",
        "agent.",
    ],
)
def test_a_bad_word_keeps_the_default_and_is_named(word: str) -> None:
    config = parse_kernel_command_line(word)
    assert config == AgentConfig()
    assert len(config.warnings) == 1
    assert word.partition("=")[0] in config.warnings[0]


def test_words_of_others_are_passed_over() -> None:
    config = parse_kernel_command_line("console=ttyS0 agentlog=debug xagent.log=debug cgroup_no_v1=memory")
    assert config == AgentConfig()
    assert config.warnings == ()


def test_environment_wins_over_the_command_line() -> None:
    environ = {
        "KATA_AGENT_SERVER_ADDR": "unix:///tmp/a.sock",
        "KATA_AGENT_LOG_LEVEL": "error",
        "KATA_AGENT_POLICY_FILE": "/etc/policy.rego",
    }
    config = load_config("agent.server_addr=vsock://-1:99 agent.log=debug", [], environ)
    assert config.server_addr == "unix:///tmp/a.sock"
    assert config.log_level == "error"
    assert config.policy_file == "/etc/policy.rego"


def test_a_bad_level_in_the_environment_leaves_the_command_lines() -> None:
    config = load_config("agent.log=debug", [], {"KATA_AGENT_LOG_LEVEL": "shout"})
    assert config.log_level == "debug"
    assert "KATA_AGENT_LOG_LEVEL" in config.warnings[0]


def test_a_file_replaces_command_line_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        'log_level = "debug"\n'
        "dev_mode = true\n"
        "hotplug_timeout = { secs = 5, nanos = 500000000 }\n"
        "container_pipe_size = 4096\n"
        "[endpoints]\n"
        'allowed = ["CreateSandbox"]\n'
    )
    environ = {"KATA_AGENT_SERVER_ADDR": "unix:///tmp/a.sock"}
    config = load_config("agent.server_addr=vsock://-1:99", ["--config", str(file)], environ)
    assert config.log_level == "debug"
    assert config.devmode is True
    assert config.hotplug_timeout_s == 5.5
    assert config.container_pipe_size == 4096
    assert config.server_addr == AgentConfig().server_addr
    assert config.config_file == str(file)
    assert "KATA_AGENT_SERVER_ADDR" in config.warnings[0]


def test_the_kernel_command_line_may_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('server_addr = "vsock://-1:2048"\n')
    config = load_config(f"agent.config_file={file} agent.log=debug", [], {})
    assert config.server_addr == "vsock://-1:2048"
    assert config.log_level == "info"


@pytest.mark.parametrize("text", [None, "log_level = ", "\x00"])
def test_a_file_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "agent.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=r"agent\.toml"):
        load_config("", ["-c", str(file)], {})


@pytest.mark.parametrize(
    ("argv", "path"),
    [
        ([], ""),
        (["--config", "/a"], "/a"),
        (["-c", "/a"], "/a"),
        (["--config=/a"], "/a"),
        (["--config"], ""),
        (["--version"], ""),
    ],
)
def test_the_argument_that_names_a_file(argv: list[str], path: str) -> None:
    assert config_file_argument(argv) == path


def test_the_last_file_parameter_counts() -> None:
    assert config_file_parameter("agent.config_file=/a x agent.config_file=/b") == "/b"


_WORDS = st.one_of(
    st.text(string.printable, max_size=40),
    st.tuples(
        st.sampled_from(["agent.", "agent.log", "agent.hotplug_timeout", "agent.mem_agent_compact_order"]),
        st.text(max_size=20),
    ).map("=".join),
)


@given(st.lists(_WORDS).map(" ".join))
def test_no_command_line_is_fatal(cmdline: str) -> None:
    config = load_config(cmdline.replace("agent.config_file", ""), [], {})
    assert config.hotplug_timeout_s > 0
    assert config.log_level in {"critical", "error", "warning", "info", "debug", "trace"}


@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["h", "m", "s", "ms"])), min_size=1, max_size=4)
)
def test_durations_add_up(parts: list[tuple[int, str]]) -> None:
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    expected = sum(number * units[unit] for number, unit in parts)
    seconds = read_duration("".join(f"{number}{unit}" for number, unit in parts))
    if expected == 0:
        assert seconds is None
    else:
        assert seconds == pytest.approx(expected)


@given(st.text(max_size=12))
def test_a_duration_is_above_zero_or_none(text: str) -> None:
    seconds = read_duration(text)
    assert seconds is None or seconds > 0
