"""Runs in a container: knocks on every door that may lead to the agent, and tells what came back.

Its arguments are JSON: the vsock CIDs and ports, and in base64 what to say to each listener. It writes
JSON: for every door, `refused: ERRNO`, `closed`, `silent`, or `answered: BYTES`. Two listeners of its
own, which answer, show that it would get an answer if there were one.
"""

from __future__ import annotations

import base64
import errno
import itertools
import json
import socket
import sys
import threading
from pathlib import Path

PATIENCE_S = 5.0
OWN_PORT = 5000
OWN_NAME = "\0probe"

Place = str | tuple[int, int]


def main(cids: list[int], ports: list[int], openings: list[bytes]) -> dict[str, str]:
    """Knock on all doors, with each of `openings`."""
    answer_on(socket.AF_VSOCK, (socket.VMADDR_CID_ANY, OWN_PORT))
    answer_on(socket.AF_UNIX, OWN_NAME)
    doors: list[tuple[str, int, int, Place]] = [
        (f"vsock {cid}:{port}", socket.AF_VSOCK, socket.SOCK_STREAM, (cid, port))
        for cid, port in itertools.product(cids, [*ports, OWN_PORT])
    ]
    doors += [
        (f"unix {name}", socket.AF_UNIX, kind, name.replace("@", "\0", 1) if name[0] == "@" else name)
        for name, kind in unix_sockets()
    ]
    return {
        f"{title} {opening[:4]!r}": knock(family, kind, place, opening)
        for title, family, kind, place in doors
        for opening in openings
    }


def unix_sockets() -> list[tuple[str, int]]:
    """Name, as the kernel shows it, and type of every bound socket (proc_net(5), /proc/net/unix)."""
    rows = [line.split(maxsplit=7) for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return sorted({(row[7], int(row[4], 16)) for row in rows if len(row) > 7})


def knock(family: int, kind: int, place: Place, opening: bytes) -> str:
    """Connect, say `opening`, and wait for a first byte."""
    with socket.socket(family, kind) as door:
        door.settimeout(PATIENCE_S)
        try:
            door.connect(place)
        except OSError as error:
            return f"refused: {errno.errorcode.get(error.errno or 0, str(error))}"
        try:
            door.sendall(opening)
            answer = door.recv(64)
        except TimeoutError:
            return "silent"
        except (ConnectionResetError, BrokenPipeError):
            return "closed"
        return f"answered: {answer!r}" if answer else "closed"


def answer_on(family: int, place: Place) -> None:
    """Listen at `place` and greet whoever comes, for as long as this program runs."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind(place)
    listener.listen()

    def greet() -> None:
        while True:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"welcome")
                peer.recv(64)

    threading.Thread(target=greet, daemon=True).start()


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    opening_bytes = [base64.b64decode(text) for text in arguments["openings"]]
    json.dump(main(arguments["cids"], arguments["ports"], opening_bytes), sys.stdout)
