"""The agent's configuration: defaults, kernel command line, TOML file, environment.

Both generations' options are understood, under the names that kata-containers/agent config.go
(1.x) and kata-containers src/agent/src/config.rs (4.1) give them. A value that cannot be read
keeps the default and leaves a warning, as the 1.x agent does: an agent that refuses to start
because of one word cannot tell anybody which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from agent.config_values import (
    ConfigValue,
    ValueReader,
    read_bool,
    read_choice,
    read_duration,
    read_integer,
    read_level,
    read_loose_bool,
    read_text,
)

DEFAULT_SERVER_ADDR = "vsock://-1:1024"
_COMMAND_LINE_PREFIX = "agent."
_CONFIG_FILE = "agent.config_file"


@dataclass(frozen=True, slots=True)
class MemAgentConfig:
    """`mem_agent_*`: parsed so that a host may send them; nothing acts on them yet."""

    memcg_disable: bool = False
    memcg_swap: bool = False
    memcg_swappiness_max: int = 50
    memcg_period_secs: int = 600
    memcg_period_psi_percent_limit: int = 1
    memcg_eviction_psi_percent_limit: int = 1
    memcg_eviction_run_aging_count_min: int = 3
    compact_disable: bool = True
    compact_period_secs: int = 600
    compact_period_psi_percent_limit: int = 1
    compact_psi_percent_limit: int = 5
    compact_sec_max: int = 300
    compact_order: int = 9
    compact_threshold: int = 1024
    compact_force_times: int = 2**64 - 1


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything that can be set. Fields ending in `_s` are seconds, `_size` bytes, `_port` vsock ports."""

    server_addr: str = DEFAULT_SERVER_ADDR
    log_level: str = "info"
    """critical, error, warning, info, debug or trace."""
    log_format: str = "auto"
    """json, text, or auto: text on a terminal, json elsewhere."""
    log_vport: int = 0
    debug_console: bool = False
    debug_console_vport: int = 0
    hotplug_timeout_s: float = 3.0
    launch_timeout_s: float = 6.0
    container_pipe_size: int = 0
    """0: the kernel's own default."""
    passfd_listener_port: int = 0
    unified_cgroup_hierarchy: bool = True
    use_vsock: bool | None = None
    devmode: bool = False
    trace: str = ""
    """Empty: off; else the kind: isolated or collated."""
    policy_file: str = ""
    config_file: str = ""
    cdh_api_timeout_s: float = 50.0
    image_pull_timeout_s: float = 1200.0
    cdi_timeout_s: float = 100.0
    visible_cdi_devices: bool = False
    https_proxy: str = ""
    no_proxy: str = ""
    guest_components_procs: str = "api-server-rest"
    guest_components_rest_api: str = "resource"
    secure_storage_integrity: bool = True
    mem_agent_enable: bool = False
    mem_agent: MemAgentConfig = field(default_factory=MemAgentConfig)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What could not be understood; for the log once there is one."""


class ConfigError(Exception):
    """The configuration cannot be used at all: a file that is missing or no TOML."""


@dataclass(frozen=True, slots=True)
class _Option:
    """One option: the field it sets and how its text is read. `bare` is the value without `=`."""

    field: str
    read: ValueReader
    bare: ConfigValue | None = None


_OPTIONS: Mapping[str, _Option] = {
    "log": _Option("log_level", read_level),
    "log_format": _Option("log_format", read_choice("json", "text", "auto")),
    "log_vport": _Option("log_vport", read_integer(0, 2**32 - 1)),
    "debug_console": _Option("debug_console", read_bool, True),
    "debug_console_vport": _Option("debug_console_vport", read_integer(0, 2**32 - 1)),
    "devmode": _Option("devmode", read_bool, True),
    "trace": _Option("trace", read_choice("isolated", "collated", true="isolated", false=""), "isolated"),
    "use_vsock": _Option("use_vsock", read_bool),
    "hotplug_timeout": _Option("hotplug_timeout_s", read_duration),
    "launch_process_timeout": _Option("launch_timeout_s", read_duration),
    "cdh_api_timeout": _Option("cdh_api_timeout_s", read_duration),
    "image_pull_timeout": _Option("image_pull_timeout_s", read_duration),
    "cdi_timeout": _Option("cdi_timeout_s", read_duration),
    "unified_cgroup_hierarchy": _Option("unified_cgroup_hierarchy", read_bool),
    "container_pipe_size": _Option("container_pipe_size", read_integer(0, 2**31 - 1)),
    "server_addr": _Option("server_addr", read_text),
    "passfd_listener_port": _Option("passfd_listener_port", read_integer(0, 2**32 - 1)),
    "visible_cdi_devices": _Option("visible_cdi_devices", read_loose_bool),
    "https_proxy": _Option("https_proxy", read_text),
    "no_proxy": _Option("no_proxy", read_text),
    "guest_components_procs": _Option(
        "guest_components_procs",
        read_choice("none", "attestation-agent", "confidential-data-hub", "api-server-rest"),
    ),
    "guest_components_rest_api": _Option(
        "guest_components_rest_api", read_choice("all", "attestation", "resource")
    ),
    "secure_storage_integrity": _Option("secure_storage_integrity", read_loose_bool),
    "mem_agent_enable": _Option("mem_agent_enable", read_loose_bool, True),
    "policy_file": _Option("policy_file", read_text),
    **{
        f"mem_agent_{item.name}": _Option(
            f"mem_agent.{item.name}", read_bool if item.type == "bool" else read_integer(0, 2**64 - 1)
        )
        for item in fields(MemAgentConfig)
    },
}
# Words of the kernel's own init that choose the cgroup version for the 4.x agent.
_CGROUP_WORDS: Mapping[str, _Option] = {
    "systemd.unified_cgroup_hierarchy": _Option("unified_cgroup_hierarchy", read_loose_bool, True),
    "cgroup_no_v1": _Option("unified_cgroup_hierarchy", lambda text: True if text == "all" else None),
}
# The TOML file's names that are not the command line's.
_FILE_NAMES = {"log_level": "log", "dev_mode": "devmode", "tracing": "trace"}
_ENVIRONMENT = {
    "KATA_AGENT_SERVER_ADDR": "server_addr",
    "KATA_AGENT_LOG_LEVEL": "log",
    "KATA_AGENT_TRACING": "trace",
    "KATA_AGENT_POLICY_FILE": "policy_file",
}


def load_config(cmdline: str, argv: Sequence[str], environ: Mapping[str, str]) -> AgentConfig:
    """The configuration from the kernel's command line, the agent's arguments and the environment.

    The environment wins over the command line, and its last word over the earlier ones. A
    configuration file, named by `--config FILE` or `agent.config_file=FILE`, replaces them all.
    Raises ConfigError when that file cannot be used.
    """
    path = config_file_argument(argv) or config_file_parameter(cmdline)
    if path:
        config = _load_file(Path(path))
        ignored = [name for name in _ENVIRONMENT if name in environ]
        if ignored:
            config = _warn(config, f"{path} replaces the environment: {', '.join(ignored)} ignored")
        return config
    return _from_environment(parse_kernel_command_line(cmdline), environ)


def parse_kernel_command_line(cmdline: str) -> AgentConfig:
    """The configuration that the words of /proc/cmdline make; words of others are passed over."""
    config = AgentConfig()
    for word in cmdline.split():
        name, equals, value = word.partition("=")
        text = value if equals else None
        if name in _CGROUP_WORDS:
            config = _set(config, _CGROUP_WORDS[name], name, text, warn=False)
        elif name.startswith(_COMMAND_LINE_PREFIX) and name != _CONFIG_FILE:
            option = _OPTIONS.get(name.removeprefix(_COMMAND_LINE_PREFIX))
            if option is None:
                config = _warn(config, f"unknown option {name} on the kernel command line")
            else:
                config = _set(config, option, name, text)
    return config


def config_file_argument(argv: Sequence[str]) -> str:
    """The file that `--config FILE`, `-c FILE` or `--config=FILE` names; empty without one."""
    for position, word in enumerate(argv):
        if word in {"--config", "-c"} and position + 1 < len(argv):
            return argv[position + 1]
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return ""


def config_file_parameter(cmdline: str) -> str:
    """The file that `agent.config_file=` names on the kernel command line; empty without one."""
    values = [word.partition("=")[2] for word in cmdline.split() if word.startswith(f"{_CONFIG_FILE}=")]
    return values[-1] if values else ""


def _load_file(path: Path) -> AgentConfig:
    """The configuration in a TOML file. Keys that no option has are passed over, as the originals do."""
    import tomllib  # few guests have such a file

    try:
        document = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"configuration file {path} cannot be used: {error}") from error
    config = AgentConfig(config_file=str(path))
    for key, text in _flatten(document):
        name = _FILE_NAMES.get(key, key)
        if name in _OPTIONS:
            config = _set(config, _OPTIONS[name], key, text)
    return config


def _flatten(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The file's values as texts. A table of `secs` and `nanos` is a duration (serde's form of one)."""
    for key, value in document.items():
        if isinstance(value, dict) and value.keys() <= {"secs", "nanos"} and value:
            yield key, f"{value.get('secs', 0)}s{value.get('nanos', 0)}ns"
        elif isinstance(value, bool):
            yield key, str(value).lower()
        elif isinstance(value, str | int | float):
            yield key, str(value)


def _from_environment(config: AgentConfig, environ: Mapping[str, str]) -> AgentConfig:
    for variable, name in _ENVIRONMENT.items():
        if environ.get(variable):
            config = _set(config, _OPTIONS[name], variable, environ[variable])
    return config


def _set(
    config: AgentConfig, option: _Option, name: str, text: str | None, *, warn: bool = True
) -> AgentConfig:
    """`config` with the field of `option` set to what `text` says, or with a warning."""
    value = option.bare if text is None else option.read(text)
    if value is None:
        given = "no value" if text is None else repr(text)
        return (
            _warn(config, f"{name} has {given}, which cannot be used; the default stays") if warn else config
        )
    outer, _, inner = option.field.partition(".")
    change: dict[str, Any] = {inner or outer: value}  # its reader has seen to the type
    if inner:
        return replace(config, mem_agent=replace(config.mem_agent, **change))
    return _implied(replace(config, **change), outer)


def _implied(config: AgentConfig, changed: str) -> AgentConfig:
    """What one option brings along: a console's port the console, development mode the debug log."""
    if changed == "debug_console_vport" and config.debug_console_vport:
        return replace(config, debug_console=True)
    if changed == "devmode" and config.devmode and config.log_level == "info":
        return replace(config, log_level="debug")
    return config


def _warn(config: AgentConfig, sentence: str) -> AgentConfig:
    return replace(config, warnings=(*config.warnings, sentence))
