"""The detached process that owns one sandbox from the first mount to the last.

    python -m host.monitor SANDBOX_DIRECTORY OWNER_FD CLIENT_FD

`OWNER_FD` holds the flock that says "owned" (`state.py`); `CLIENT_FD` is a connected socket whose
other end the command holds that asked for the sandbox: its first client. Further ones come by
`monitor.sock`. The monitor lives in a mount namespace of its own: however it ends, the kernel takes
down what it has mounted, and no command that clears up can ever reach a volume through a leftover.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from host.client import AgentCallError
from host.errors import HostError
from host.exit_status import failure_of
from host.monitor_protocol import Exited, Failed, FrameKind, Message, Progress, Started
from host.monitor_server import Session
from host.output_log import OutputLog
from host.private_mounts import enter_private_mounts
from host.process_identity import ProcessIdentity
from host.process_io import GONE
from host.sandbox_cleanup import remove_files
from host.sandbox_run import SandboxRun, VmDetails
from host.state import Phase, Sandbox, SandboxStore

logger = logging.getLogger("host.monitor")

# What the guest gets between a kill and the power switch.
KILL_GRACE_S = 10.0
# Clients that do not read their last message are not waited for any longer.
GOODBYE_S = 5.0


class Monitor:
    """One sandbox's owner: runs it, tells its clients, and writes its record."""

    def __init__(self, store: SandboxStore, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.log = OutputLog(sandbox.output_log)
        self.followers: set[Session] = set()  # those that get output, progress and the start
        self.outcome: asyncio.Future[Exited | Failed] = asyncio.get_running_loop().create_future()
        self.life = SandboxRun(sandbox, sandbox.read().options, self)
        self._store = store
        self._record = sandbox.read()
        self._task: asyncio.Task[int] | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._begin = asyncio.Event()

    async def serve(self, first_client: socket.socket) -> None:
        """Run the sandbox to its end and answer clients meanwhile."""
        self._update(monitor=ProcessIdentity.of(os.getpid()))
        server = await asyncio.start_unix_server(self._accept, path=self.sandbox.socket)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.abandon)
        self._accept(*await asyncio.open_connection(sock=first_client), first=True)
        await self._begin.wait()
        outcome = await self._run()
        self._finish(outcome)
        server.close()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=GOODBYE_S)

    def begin(self) -> None:
        """The first client is ready: nothing it wants to see can be missed now."""
        self._begin.set()

    def abandon(self) -> None:
        """Take everything down as soon as possible: the client that wanted it is gone."""
        self._stopping = True
        self._begin.set()
        if self._task and not self._task.done():
            self._task.cancel()

    async def stop(self, grace_s: float) -> None:
        """End the sandbox: SIGTERM to its command, then SIGKILL, then everything is taken down."""
        if self.life.container is None:
            self.abandon()
        for signum, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_GRACE_S)):
            if self.outcome.done():
                return
            with contextlib.suppress(*GONE):  # it may end by itself meanwhile
                await self.signal(signum)
            await asyncio.wait({self.outcome}, timeout=patience_s)
        if not self.outcome.done():
            logger.warning("the container does not end on SIGKILL: its VM is taken down")
            self.abandon()
            await self.outcome

    async def signal(self, signum: int) -> None:
        """Send the container's first process a signal; SIGKILL goes to all of its processes."""
        if self.life.container is None:
            raise HostError(f"sandbox {self.sandbox.id} has no running command yet", "try again shortly")
        if signum == signal.SIGKILL:
            await self.life.container.kill_all()
        else:
            await self.life.container.init.signal(signum)

    # ---- what the run tells (sandbox_run.Observer) ----

    def step(self, text: str) -> None:
        """A step of the run begins."""
        logger.info("%s", text)
        self._tell(Progress(text))

    def vm_started(self, details: VmDetails) -> None:
        """The VM's processes exist; whoever clears up after us must know them."""
        self._update(
            processes=details.processes,
            agent_address=details.agent_address,
            console_address=details.console_address,
            accelerator=details.accelerator,
        )

    def container_started(self) -> None:
        """The command runs."""
        self._update(phase=Phase.RUNNING, started_at=time.time())
        self._tell(Started())

    async def write(self, stream: FrameKind, data: bytes) -> None:
        """Take a piece of the container's output: into the log, then to everyone attached.

        Returns when all have taken it, so a slow reader slows the container, and nothing is lost.
        """
        await self.log.append(stream, data)
        for session in list(self.followers):
            await session.send_output(stream, data)

    # ---- inside ----

    def _tell(self, message: Message) -> None:
        for session in list(self.followers):
            session.tell(message)

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, first: bool = False
    ) -> None:
        task = asyncio.create_task(Session(self, reader, writer, is_first=first).run())
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)

    async def _run(self) -> Exited | Failed:
        """The whole life; every way it can end becomes the one message that clients get."""
        try:
            if self._stopping:
                return Failed("the run was given up before it began", 130)
            self._task = asyncio.create_task(self.life.run(self))
            return Exited(await self._task)
        except asyncio.CancelledError:
            return Failed("the run was given up, and everything of it has been removed", 130)
        except (HostError, AgentCallError, OSError) as error:
            logger.error("the run failed", exc_info=error)
            return Failed(*failure_of(error), trace=traceback.format_exc())
        except Exception as error:  # a bug of ours must still reach the user and the record
            logger.exception("the run failed in an unforeseen way")
            text = f"the monitor failed: {type(error).__name__}: {error}"
            return Failed(text, trace=traceback.format_exc())
        finally:
            await self.log.close()

    def _finish(self, outcome: Exited | Failed) -> None:
        """Write the last record, or remove everything; only then tell: the caller may look at once."""
        if self._record.options.remove:
            remove_files(self.sandbox.path)
            self._store.tidy()
        elif isinstance(outcome, Exited):
            self._end(Phase.EXITED, exit_status=outcome.status)
        else:
            self._end(Phase.FAILED, exit_status=outcome.status, error=outcome.message)
        self.outcome.set_result(outcome)

    def _end(self, phase: Phase, *, exit_status: int, error: str = "") -> None:
        self._update(
            phase=phase,
            exit_status=exit_status,
            error=error,
            finished_at=time.time(),
            processes=(),
            monitor=None,
        )
        self.sandbox.socket.unlink(missing_ok=True)

    def _update(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the record
        self._record = replace(self._record, **changes)
        self.sandbox.write(self._record)


async def _serve(sandbox: Sandbox, first_client: socket.socket) -> None:
    store = SandboxStore(sandbox.path.parent.parent)
    await Monitor(store, sandbox).serve(first_client)


def main() -> None:
    """Become the monitor of the sandbox that the arguments name."""
    directory, _owner_fd, client_fd = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    sandbox = Sandbox(directory)
    logging.basicConfig(
        level=sandbox.read().options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("qemu").setLevel(logging.WARNING)  # at debug it tells every byte of QMP
    tempfile.tempdir = str(directory)  # whatever we leave there goes with the sandbox
    enter_private_mounts()
    asyncio.run(_serve(sandbox, socket.socket(fileno=client_fd)))


if __name__ == "__main__":
    main()
