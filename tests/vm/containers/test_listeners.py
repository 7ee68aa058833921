"""No container reaches the agent: vsock and abstract sockets know no namespaces of a container's own."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.transports.ttrpc_frames import Request, encode_request
from tests.scripted_host import ScriptedHost
from tests.vm.containers import probe_listeners
from tests.vm.containers.guests import BOX, WIRES, Guest, allow, running
from tests.vm.machines import CONSOLE_PORT

pytestmark = pytest.mark.asyncio(loop_scope="package")

AGENT_PORT = 1024
LOCAL_CID = 1  # VMADDR_CID_LOCAL, vsock(7)
GRPC_SOCKET = "/run/kata-agent/grpc.sock"

# What a host of either generation says first, and what a person says to a shell.
OPENINGS = (
    b"".join(encode_request(1, Request("grpc.Health", "Check"))),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
    b"echo hello\n",
)
# capabilities(7), as of Linux 6.1.
ALL_CAPABILITIES = re.findall(
    r"\w+",
    """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
    DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD
    NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN
    SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG WAKE_ALARM
    """,
)
# IOCTL_VM_SOCKETS_GET_LOCAL_CID, <linux/vm_sockets.h>.
OWN_CID = "import fcntl; print(int.from_bytes(fcntl.ioctl(open('/dev/vsock'), 0x7B9, bytes(4)), 'little'))"


async def test_a_root_container_gets_no_answer(guest: Guest) -> None:
    # With this module the guest's own addresses lead somewhere at all: the worst case.
    await guest.shell.run("modprobe vsock_loopback && modprobe vsock_diag")
    own_cid = int(await guest.shell.run(f'python3 -S -c "{OWN_CID}"'))
    listening = await guest.shell.run("ss --vsock -lnH | grep -o '[*0-9]*:[0-9]\\+' | sort")
    assert listening.splitlines() == [f"*:{AGENT_PORT}", f"*:{CONSOLE_PORT}"]

    outcomes = await probe(guest, [LOCAL_CID, own_cid], [AGENT_PORT, CONSOLE_PORT])

    own = {door: outcome for door, outcome in outcomes.items() if "probe" in door or ":5000 " in door}
    assert len(own) == 3 * len(OPENINGS)
    assert set(own.values()) == {"answered: b'welcome'"}
    others = {door: outcome for door, outcome in outcomes.items() if door not in own}
    assert sum(door.startswith("vsock") for door in others) == 4 * len(OPENINGS)
    assert sum(GRPC_SOCKET in door for door in others) == len(OPENINGS)
    reached = {
        door: outcome for door, outcome in others.items() if not outcome.startswith(("refused", "closed"))
    }
    assert reached == {}
    for wire in WIRES:
        await guest.hosts[wire].call("Check")


async def probe(guest: Guest, cids: list[int], ports: list[int]) -> dict[str, str]:
    """Run the probe by the guest's own Python, in a container that may do everything."""
    host = guest.hosts["ttrpc"]
    root, root_there = guest.share("python")
    shutil.copy(str(probe_listeners.__file__), root / "probe.py")
    for name in ("lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("usr", "proc", "dev"):
        (root / name).mkdir()
    arguments = {"cids": cids, "ports": ports, "openings": [base64.b64encode(b).decode() for b in OPENINGS]}
    there = ScriptedHost(host.client, Path(root_there))
    spec: Any = there.spec("/usr/bin/python3", "-S", "/probe.py", json.dumps(arguments), container_id=BOX)
    spec.Mounts.add(destination="/usr", source="/usr", type="bind", options=["bind", "ro"])
    allow(spec, *(f"CAP_{name}" for name in ALL_CAPABILITIES))
    async with running(there, spec=spec):
        output, errors = await there.output(BOX), await there.output(BOX, stream="ReadStderr")
        assert await there.wait(BOX) == 0, errors.decode()
    outcomes: dict[str, str] = json.loads(output)
    return outcomes
