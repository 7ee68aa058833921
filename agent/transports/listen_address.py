"""Where the agent listens: the texts that `agent.server_addr` may have, and sockets for them."""

from __future__ import annotations

import os
import re
import socket
import stat
from dataclasses import dataclass

from agent.errors import InvalidRequest, KernelRefused
from agent.linux.vsock import ANY_CID, listen_vsock

_BACKLOG = 128
_VSOCK = re.compile(r"vsock://(-1|\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class VsockAddress:
    """A port of the guest's; `cid` -1 stands for whatever CID the guest has."""

    cid: int
    port: int

    def __str__(self) -> str:
        return f"vsock://{self.cid}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket file, or a name in the network namespace's abstract space."""

    name: str
    abstract: bool = False

    def __str__(self) -> str:
        return f"unix://{'@' if self.abstract else ''}{self.name}"


ListenAddress = VsockAddress | UnixAddress


def parse_listen_address(text: str) -> ListenAddress:
    """Read `vsock://-1:1024`, `vsock://CID:PORT`, `unix://PATH` or `unix://@NAME`.

    Raises InvalidRequest. The forms are those of kata-containers/kata-containers src/agent.
    """
    if match := _VSOCK.fullmatch(text):
        return VsockAddress(int(match[1]), int(match[2]))
    scheme, separator, name = text.partition("://")
    if separator and scheme == "unix" and name not in ("", "@"):
        return UnixAddress(name.removeprefix("@"), abstract=name.startswith("@"))
    raise InvalidRequest(
        f"{text!r} is no address to listen on",
        hint="it must read vsock://-1:PORT, vsock://CID:PORT, unix://PATH or unix://@NAME",
    )


def open_listener(address: ListenAddress) -> socket.socket:
    """A non-blocking socket that listens on `address`. Raises KernelRefused.

    A socket file is the owner's alone; one that a dead process left behind is replaced.
    """
    try:
        if isinstance(address, VsockAddress):
            return listen_vsock(
                address.port, cid=ANY_CID if address.cid == -1 else address.cid, backlog=_BACKLOG
            )
        return _listen_unix(address)
    except OSError as error:
        raise KernelRefused.from_oserror(f"listening on {address}", error) from error


def remove_socket_file(path: str) -> None:
    """Remove the socket at `path`, if there is one; never a file of another kind."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass


def _listen_unix(address: UnixAddress) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if address.abstract:
            listener.bind(f"\0{address.name}")
        else:
            if not _has_listener(address.name):
                remove_socket_file(address.name)
            listener.bind(address.name)
            os.chmod(address.name, 0o600)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _has_listener(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # its backlog is full
        except OSError:
            return False
        return True
