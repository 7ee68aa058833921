"""`pykata ps`, `inspect` and `logs`: what can be seen of sandboxes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from host.errors import HostError

if TYPE_CHECKING:
    from host.state import Sandbox, SandboxRecord


@click.command()
@click.option("-a", "--all", "every", is_flag=True, help="Also those that have ended.")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ps(every: bool, quiet: bool, as_json: bool) -> int:
    """List the sandboxes that run."""
    from host.state import Phase, SandboxStore

    records = [record for sandbox in SandboxStore().all() if (record := _readable(sandbox))]
    if not every:
        records = [record for record in records if record.phase in (Phase.STARTING, Phase.RUNNING)]
    if as_json:
        click.echo(json.dumps([_document(record) for record in records], indent=1))
    elif quiet:
        for record in records:
            click.echo(record.id)
    else:
        print_table([("ID", "NAME", "STATUS", "ROOTFS", "COMMAND"), *map(_row, records)])
    return 0


@click.command()
@click.argument("sandboxes", nargs=-1, required=True)
def inspect(sandboxes: tuple[str, ...]) -> int:
    """Print all that is known of SANDBOXES as a JSON array."""
    from host.state import SandboxStore

    store = SandboxStore()
    documents = []
    for reference in sandboxes:
        sandbox = store.find(reference)
        files = {
            "directory": sandbox.path,
            "monitor_log": sandbox.monitor_log,
            "output_log": sandbox.output_log,
        }
        files["console_log"] = sandbox.path / "vm" / "console.log"
        documents.append(_document(sandbox.read()) | {name: str(path) for name, path in files.items()})
    click.echo(json.dumps(documents, indent=1))
    return 0


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the container ends.")
@click.argument("sandbox")
def logs(sandbox: str, follow: bool) -> int:
    """Print what the command of SANDBOX has written, each stream to its own."""
    from host.foreground import STDERR, STDOUT, write_all
    from host.monitor_protocol import FrameKind
    from host.output_log import read_log
    from host.state import SandboxStore

    found = SandboxStore().find(sandbox)

    async def run() -> None:
        if follow and found.has_owner():
            await _follow(found)
            return
        for record in read_log(found.output_log):
            await write_all(STDOUT if record.stream is FrameKind.STDOUT else STDERR, record.data)

    asyncio.run(run())
    return 0


async def _follow(sandbox: Sandbox) -> None:
    from host.foreground import Foreground, Streams
    from host.monitor_client import Connection, RequestFailed
    from host.monitor_protocol import FollowLog
    from host.progress import StepDisplay

    connection = await Connection.open(sandbox)
    try:
        await Foreground(connection, Streams(), StepDisplay(quiet=True)).run(FollowLog())
    except RequestFailed as error:
        click.echo(f"pykata: the sandbox ended without an exit status: {error}", err=True)
    finally:
        await connection.close()


def _readable(sandbox: Sandbox) -> SandboxRecord | None:
    """Its record; what a creation that was cut short has left shows in a warning only."""
    try:
        return sandbox.read()
    except HostError as error:
        if sandbox.path.exists():
            click.echo(f"pykata: {error}", err=True)
        return None


def _document(record: SandboxRecord) -> dict[str, Any]:
    from host.json_codec import to_document

    document: dict[str, Any] = to_document(record)
    return document


def _row(record: SandboxRecord) -> tuple[str, ...]:
    command = " ".join(record.options.command)
    shown = command if len(command) <= 40 else f"{command[:37]}..."
    return record.id, record.name, status_text(record, time.time()), record.options.rootfs, shown


def status_text(record: SandboxRecord, now: float) -> str:
    """The phase for a person: `up 5 minutes`, `exited (0) 3 hours ago`."""
    from host.state import Phase

    match record.phase:
        case Phase.RUNNING:
            return f"up {duration(now - record.started_at)}"
        case Phase.EXITED | Phase.FAILED:
            return f"{record.phase} ({record.exit_status}) {duration(now - record.finished_at)} ago"
        case _:
            return record.phase.value


def duration(seconds: float) -> str:
    """A span in its largest whole unit."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{int(max(seconds, 0))} s"


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of equal length in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
