"""The kata-agent command: reads the configuration, starts the supervisor, says what went wrong.

As the first process of a machine it also makes the machine usable, and switches it off at the end,
whatever the end was.
"""

from __future__ import annotations

import os
import sys

# asyncio imports ssl for a kind of transport that the agent does not have. Without it the
# interpreter is up in half the time and has 5 MB less (own measurement, Python 3.11).
sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # None is how an import is forbidden

import asyncio  # noqa: E402
import logging  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

from agent import log  # noqa: E402
from agent.config import AgentConfig, ConfigError, load_config  # noqa: E402

_USAGE = """\
usage: kata-agent [--config FILE] [--version] [--help]

The Kata Containers agent. In a guest it is configured by the kernel's command line (agent.*).

  -c, --config FILE  read the configuration from a TOML file, and from nowhere else
  --version          print the version and exit
  --help             print this text and exit

environment: KATA_AGENT_SERVER_ADDR    vsock://CID:PORT, unix://PATH or unix://@NAME
             KATA_AGENT_LOG_LEVEL      critical, error, warning, info, debug or trace
             KATA_AGENT_TRACING        true or false
             KATA_AGENT_POLICY_FILE    a policy to start with
"""
EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent; return its exit status: 0 stopped in order, 1 failed, 2 wrong arguments.

    As process 1 it does not return, unless the kernel refuses to power off.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if os.getpid() == 1:
        return _run_as_init(arguments)
    complaint = _check(arguments)
    if complaint:
        sys.stderr.write(f"kata-agent: {complaint}\n{_USAGE}")
        return EXIT_USAGE
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(_USAGE)
        return EXIT_OK
    if "--version" in arguments or "-version" in arguments:
        from importlib.metadata import version  # costs more than the rest of the start

        sys.stdout.write(f"kata-agent version {version('pykata')}\n")
        return EXIT_OK
    try:
        _serve(load_config(_kernel_command_line(), arguments, os.environ), is_init=False)
    except ConfigError as error:
        sys.stderr.write(f"kata-agent: {error}\n")
        return EXIT_USAGE
    except Exception as error:  # the last frame: a sentence, and the log has the rest
        logging.getLogger("agent").exception("the agent failed")
        sys.stderr.write(f"kata-agent: {describe(error)}\n")
        return EXIT_FAILED
    sys.stderr.write("kata-agent shutdown complete\n")
    return EXIT_OK


def describe(error: BaseException) -> str:
    """One sentence: what failed, on which paths, and why."""
    if isinstance(error, OSError):
        paths = " -> ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
        return f"{paths}: {error.strerror}" if paths else str(error.strerror or error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _run_as_init(arguments: Sequence[str]) -> int:
    """The whole life of process 1. Its end would be a kernel panic: power off instead, and say why."""
    from agent.pid1.power_off import power_off, say_on_console

    last_words = "shutdown complete"
    try:
        _serve_as_init(arguments)
    except BaseException as error:  # nobody else is left to handle it
        last_words = f"cannot go on, powering off: {describe(error)}"
        logging.getLogger("agent").error("the agent failed", exc_info=error)
    say_on_console(last_words)
    power_off()
    return EXIT_FAILED


def _serve_as_init(arguments: Sequence[str]) -> None:
    from agent.pid1.first_steps import mount_what_configuration_needs, prepare_machine

    complaints = mount_what_configuration_needs()
    config = load_config(_kernel_command_line(), arguments, os.environ)
    complaints += prepare_machine(unified_cgroups=config.unified_cgroup_hierarchy)
    _serve(config, is_init=True, complaints=complaints)


def _serve(config: AgentConfig, *, is_init: bool, complaints: Sequence[str] = ()) -> None:
    from agent.supervisor import supervise

    ring = None
    if config.log_vport:
        from agent.log_port import LogRing  # few hosts follow the log

        ring = LogRing()
    stdout = sys.stdout if sys.stdout is not None else sys.stderr
    log.configure(config, stream=log.own_stream(stdout) if ring is None else ring)
    logger = logging.getLogger("agent")
    for sentence in (*config.warnings, *complaints):
        logger.warning(sentence)
    asyncio.run(supervise(config, is_init=is_init, log_ring=ring))


def _check(arguments: Sequence[str]) -> str:
    """What is wrong with `arguments`; empty if nothing is."""
    words = iter(arguments)
    for word in words:
        if word in {"-c", "--config"}:
            if next(words, None) is None:
                return f"{word} needs a file"
        elif word not in {"-h", "--help", "--version", "-version"} and not word.startswith("--config="):
            return f"unknown argument {word!r}"
    return ""


def _kernel_command_line() -> str:
    try:
        return Path("/proc/cmdline").read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
