"""`pykata console`: the guest itself, outside of its containers."""

from __future__ import annotations

import asyncio

import click

from host.cli_options import command_after
from host.errors import HostError


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("sandbox")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def console(sandbox: str, command: tuple[str, ...]) -> int:
    """Open a shell in the guest of SANDBOX, or run CMD there.

    The VM must have been started with `pykata run --debug-console`. Ctrl-P Ctrl-Q leaves.
    """
    from host.console import run_command, run_shell
    from host.foreground import STDOUT, write_all
    from host.state import SandboxStore

    found = SandboxStore().find(sandbox)
    address = found.read().console_address
    if not found.has_owner():
        raise HostError(f"sandbox {sandbox} is not running", "see `pykata ps -a`")
    if not address:
        raise HostError(
            f"the guest of sandbox {sandbox} has no console", "start it with `pykata run --debug-console`"
        )

    async def run() -> int:
        words = command_after(command)
        if not words:
            return await run_shell(address)
        status, output = await run_command(address, words)
        await write_all(STDOUT, output)
        return status

    return asyncio.run(run())
