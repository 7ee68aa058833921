"""Sockets between the guest and its host: vsock(7).

vsock knows no namespaces: every container of the guest can reach every listener of the guest,
through the loopback CID or the guest's own. So whoever accepts asks `is_from_host` first.
"""

from __future__ import annotations

import socket

# CIDs of vsock(7). On Python 3.11 the socket module has the first and the third of them only.
ANY_CID = socket.VMADDR_CID_ANY
LOCAL_CID = 1
HOST_CID = socket.VMADDR_CID_HOST


def listen_vsock(port: int, *, cid: int = ANY_CID, backlog: int = 128) -> socket.socket:
    """A non-blocking listener on `port`; the caller closes it. Raises OSError."""
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind((cid, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, f"vsock port {port}") from error
    return listener


def is_from_host(peer: tuple[int, int]) -> bool:
    """Whether `peer`, an address as accept() returns it (CID, port), is the host's."""
    return peer[0] == HOST_CID
