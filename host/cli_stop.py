"""`pykata wait`, `stop`, `kill` and `rm`: how sandboxes end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import click

from host.errors import HostError, InvalidInput

if TYPE_CHECKING:
    from host.state import Sandbox, SandboxStore

# What an orderly end may take under `rm -f` before the monitor itself is killed.
ORDERLY_REMOVAL_S = 15.0


@click.command()
@click.argument("sandboxes", nargs=-1, required=True)
def wait(sandboxes: tuple[str, ...]) -> int:
    """Wait until each of SANDBOXES has ended and print its exit status."""
    from host.monitor_client import RequestFailed, ask
    from host.monitor_protocol import Exited, Wait
    from host.state import SandboxStore

    store = SandboxStore()
    for reference in sandboxes:
        sandbox = store.find(reference)
        status = sandbox.read().exit_status
        if status is None:
            try:
                answer = asyncio.run(ask(sandbox, Wait()))
                status = answer.status if isinstance(answer, Exited) else 0
            except RequestFailed as error:
                status = error.status
        click.echo(status)
    return 0


@click.command()
@click.option(
    "-t",
    "--time",
    "grace_s",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds from SIGTERM to SIGKILL.",
)
@click.argument("sandboxes", nargs=-1, required=True)
def stop(sandboxes: tuple[str, ...], grace_s: float) -> int:
    """End the containers of SANDBOXES and their VMs."""
    from host.state import SandboxStore

    store = SandboxStore()
    for reference in sandboxes:
        sandbox = store.find(reference)
        if sandbox.has_owner():
            asyncio.run(_stop(sandbox, grace_s))
        click.echo(reference)
    return 0


@click.command()
@click.option(
    "-s", "--signal", "name", default="KILL", show_default=True, help="Name or number of the signal."
)
@click.argument("sandboxes", nargs=-1, required=True)
def kill(sandboxes: tuple[str, ...], name: str) -> int:
    """Send the commands of SANDBOXES a signal; SIGKILL goes to all processes of the container."""
    from host.monitor_client import ask
    from host.monitor_protocol import Kill
    from host.state import SandboxStore

    signum = signal_number(name)
    store = SandboxStore()
    for reference in sandboxes:
        asyncio.run(ask(store.find(reference), Kill(signum)))
        click.echo(reference)
    return 0


@click.command()
@click.option("-f", "--force", is_flag=True, help="End what still runs; do not mind what does not exist.")
@click.argument("sandboxes", nargs=-1, required=True)
def rm(sandboxes: tuple[str, ...], force: bool) -> int:
    """Remove SANDBOXES and everything that a killed command, monitor or VM of theirs has left."""
    from host.state import SandboxStore

    store = SandboxStore()
    for reference in sandboxes:
        try:
            sandbox = store.find(reference)
        except InvalidInput:
            if force:
                continue
            raise
        _remove(store, sandbox, force=force)
        click.echo(reference)
    return 0


def _remove(store: SandboxStore, sandbox: Sandbox, *, force: bool) -> None:
    from host.sandbox_cleanup import clear_away

    if sandbox.has_owner():
        if not force and not _is_ending(sandbox):
            raise HostError(f"sandbox {sandbox.id} is running", "stop it first, or use `pykata rm -f`")
        asyncio.run(_end(sandbox))
    clear_away(store, sandbox)


def _is_ending(sandbox: Sandbox) -> bool:
    """Its last word is written: the monitor is only just saying goodbye."""
    with contextlib.suppress(HostError):
        return sandbox.read().exit_status is not None
    return False


async def _end(sandbox: Sandbox) -> None:
    """Ask the monitor to take everything down; if it does not answer in time, it will be killed."""
    with contextlib.suppress(TimeoutError, HostError):
        await asyncio.wait_for(_stop(sandbox, grace_s=0), 2 * ORDERLY_REMOVAL_S)


async def _stop(sandbox: Sandbox, grace_s: float) -> None:
    """Have the monitor end the container and the VM, and see the monitor itself gone."""
    from host.monitor_client import ask
    from host.monitor_protocol import Stop

    await ask(sandbox, Stop(grace_s))
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(loop.run_in_executor(None, sandbox.wait_for_owner), ORDERLY_REMOVAL_S)


def signal_number(name: str) -> int:
    """The number of the signal called `name`: KILL, SIGKILL, or a number. Raises InvalidInput."""
    text = name.upper()
    try:
        if text.isdigit():
            return signal.Signals(int(text)).value
        return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"].value
    except (KeyError, ValueError):
        raise InvalidInput(f"{name!r} is not a signal", "give a name such as TERM, or its number") from None
