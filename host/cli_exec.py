"""`pykata exec` and `pykata attach`: a running container, from a later command."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from host.cli_options import check_terminal, command_after, environment, failing_with_125
from host.errors import InvalidInput

if TYPE_CHECKING:
    from host.foreground import Streams
    from host.monitor_protocol import Attach, Execute


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Do not wait for the command.")
@click.option("-e", "--env", multiple=True, metavar="K[=V]", help="Set a variable.")
@click.option("-w", "--workdir", default="", metavar="DIR", help="Working directory in the container.")
@click.option("-u", "--user", default="", metavar="USER[:GROUP]", help="Run as this user.")
@click.argument("sandbox")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@failing_with_125
def execute(sandbox: str, command: tuple[str, ...], env: tuple[str, ...], **given: bool | str) -> int:
    """Run CMD in the container of SANDBOX, a name or the beginning of an id. The exit status is CMD's."""
    from host.foreground import Streams
    from host.monitor_protocol import Execute
    from host.terminal import window_of

    words = command_after(command)
    if not words:
        raise InvalidInput(
            "there is no command to run", f"put it behind the name, as `pykata exec {sandbox} sh`"
        )
    interactive, tty, detach = bool(given["interactive"]), bool(given["tty"]), bool(given["detach"])
    if not detach:
        check_terminal(interactive=interactive, tty=tty)
    request = Execute(
        words,
        env=environment(env),
        workdir=str(given["workdir"]),
        user=str(given["user"]),
        tty=tty,
        interactive=interactive,
        detach=detach,
        window=window_of(0) if tty else None,
    )
    return asyncio.run(_follow(sandbox, request, Streams(interactive=interactive and not detach, tty=tty)))


@click.command()
@click.option("--no-stdin", is_flag=True, help="Do not pass standard input on.")
@click.argument("sandbox")
@failing_with_125
def attach(sandbox: str, no_stdin: bool) -> int:
    """Connect standard input and output to the command of SANDBOX.

    Ctrl-P Ctrl-Q leaves again if it has a terminal; without one, Ctrl-C is passed on to the command.
    """
    from host.foreground import Streams
    from host.monitor_protocol import Attach
    from host.state import SandboxStore

    options = SandboxStore().find(sandbox).read().options
    interactive = options.interactive and not no_stdin
    check_terminal(interactive=interactive, tty=options.tty)
    return asyncio.run(_follow(sandbox, Attach(), Streams(interactive=interactive, tty=options.tty)))


async def _follow(reference: str, request: Attach | Execute, streams: Streams) -> int:
    from host.foreground import Foreground
    from host.monitor_client import Connection
    from host.progress import StepDisplay
    from host.state import SandboxStore

    connection = await Connection.open(SandboxStore().find(reference))
    try:
        return await Foreground(connection, streams, StepDisplay()).run(request)
    finally:
        await connection.close()
