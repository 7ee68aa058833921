"""`pykata ctl`: any method of an agent, wherever it listens."""

from __future__ import annotations

import asyncio
import sys

import click

from host.cli_options import EnumChoice
from host.errors import HostError, InvalidInput
from host.run_options import Wire

CONNECT_TIMEOUT_S = 10.0


@click.command()
@click.option(
    "--wire",
    type=EnumChoice(Wire),
    default=Wire.TTRPC.value,
    show_default=True,
    help="The protocol to speak.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=60.0,
    show_default=True,
    help="Seconds to wait for the answer; 0 waits for as long as it takes.",
)
@click.option("--list", "list_methods", is_flag=True, help="List the methods of the wire instead.")
@click.argument("address")
@click.argument("method", required=False, default="")
@click.argument("json_text", metavar="[JSON]", required=False, default="")
def ctl(
    address: str, method: str, json_text: str, *, wire: Wire, timeout_s: float, list_methods: bool
) -> int:
    """Call METHOD of the agent at ADDRESS with the request JSON and print its answer as JSON.

    ADDRESS is unix://PATH, unix://@NAME, vsock://CID:PORT, hvsock://PATH:PORT, or the name of a running
    sandbox. JSON has the fields of the .proto files; `-` reads it from standard input.
    """
    if not method and not list_methods:
        raise InvalidInput("there is no method to call", "see `pykata ctl --list ADDRESS`")
    text = sys.stdin.read() if json_text == "-" else json_text
    asyncio.run(_call(_resolved(address), method, text, wire=wire, timeout_s=timeout_s or None))
    return 0


def _resolved(address: str) -> str:
    """An address as it is; a sandbox's name as the address of its agent."""
    if "://" in address or "/" in address:
        return address
    from host.state import SandboxStore

    sandbox = SandboxStore().find(address)
    found = sandbox.read().agent_address
    if not found or not sandbox.has_owner():
        raise HostError(f"sandbox {address} has no running agent", "see `pykata ps -a`")
    return found


async def _call(address: str, method: str, text: str, *, wire: Wire, timeout_s: float | None) -> None:
    from host.client import AgentCallError, connect, request_from_json, response_to_json

    try:
        async with await connect(address, wire=wire.value, timeout_s=CONNECT_TIMEOUT_S) as client:
            if not method:
                click.echo("\n".join(client.methods))
                return
            request = request_from_json(client, method, text)
            click.echo(response_to_json(await client.call(method, request, timeout_s=timeout_s)))
    except AgentCallError as error:
        raise HostError(f"{method} was refused with status {error.code}: {error.message}") from error
    except ValueError as error:
        raise InvalidInput(str(error)) from error
    except OSError as error:
        raise HostError(
            f"no agent can be reached at {address} ({error})", "check the address and the wire"
        ) from error
