"""What the first process does before the agent's own start.

Everything here is synchronous and starts no child: the event loop does not exist yet. Behaviour:
kata-containers/agent agent.go `initAgentAsInit`, kata-containers src/agent/src/main.rs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from agent.linux.process import set_hostname, set_interface_up, take_controlling_terminal
from agent.pid1.boot_mounts import mount_cgroups, mount_general

_PATH = "/bin:/sbin:/usr/bin:/usr/sbin"
_DEFAULT_HOSTNAME = "localhost"
_STANDARD_STREAMS = 3


def mount_what_configuration_needs() -> list[str]:
    """Mount everything up to control groups; return sentences for the log.

    The kernel's command line, which says the rest, can be read afterwards. Raises OSError.
    """
    complaints = mount_general()
    open_standard_streams()
    return complaints


def prepare_machine(*, unified_cgroups: bool) -> list[str]:
    """The steps after the configuration is known; return sentences for the log.

    Raises OSError when control groups or /dev/ptmx cannot be had: no container would run. The
    rest is worth a complaint only.
    """
    complaints = mount_cgroups(unified=unified_cgroups)
    link_ptmx()
    ignore_keyboard()
    os.environ["PATH"] = _PATH
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("taking the console as controlling terminal", lambda: take_controlling_terminal(0)),
        ("setting the hostname", lambda: set_hostname(read_hostname())),
        ("setting the loopback interface up", lambda: set_interface_up("lo")),
    )
    for what, step in steps:
        try:
            step()
        except OSError as error:
            complaints.append(f"{what} failed: {error.strerror}")
    return complaints


def open_standard_streams(console: str = "/dev/console") -> None:
    """Give the process the three streams it lacks when the kernel found no console for it.

    Without them the next opened files would take their places. Raises OSError.
    """
    path = console if os.path.exists(console) else os.devnull
    while (fd := os.open(path, os.O_RDWR | os.O_NOCTTY)) < _STANDARD_STREAMS:
        os.set_inheritable(fd, True)
    os.close(fd)


def link_ptmx(dev: str = "/dev") -> None:
    """Make /dev/ptmx the one of the devpts instance at /dev/pts. Raises OSError.

    kernel.org, Documentation/filesystems/devpts.rst: every mount of devpts is an instance of its own.
    """
    link = Path(dev, "ptmx")
    if not (link.is_symlink() and link.readlink() == Path("pts/ptmx")):
        link.unlink(missing_ok=True)
        link.symlink_to("pts/ptmx")


def ignore_keyboard() -> None:
    """Ctrl-C and Ctrl-\\ on the console, and its hang-up, must not end the machine."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def read_hostname(path: str = "/etc/hostname") -> str:
    """The first word of /etc/hostname; `localhost` without one."""
    try:
        words = Path(path).read_text().split()
    except OSError:
        words = []
    return words[0] if words else _DEFAULT_HOSTNAME
