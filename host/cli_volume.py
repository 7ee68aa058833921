"""`pykata volume`: named volumes, which outlive the sandboxes that use them."""

from __future__ import annotations

import json

import click

from host.cli_inspect import print_table
from host.errors import HostError


@click.group()
def volume() -> None:
    """List, inspect and remove named volumes."""


@volume.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_volumes(quiet: bool, as_json: bool) -> int:
    """List all named volumes."""
    from host.state import data_directory
    from host.volumes import VolumeStore

    volumes = VolumeStore(data_directory()).all()
    if as_json:
        click.echo(json.dumps([{"name": one.name, "path": str(one.path)} for one in volumes], indent=1))
    elif quiet:
        for one in volumes:
            click.echo(one.name)
    else:
        print_table([("NAME", "PATH"), *((one.name, str(one.path)) for one in volumes)])
    return 0


@volume.command("inspect")
@click.argument("names", nargs=-1, required=True)
def inspect_volumes(names: tuple[str, ...]) -> int:
    """Print where the files of volumes are, when they were made and who uses them, as JSON."""
    from host.state import data_directory
    from host.volumes import VolumeStore

    store = VolumeStore(data_directory())
    documents = []
    for name in names:
        found = store.get(name)
        document = {"name": name, "path": str(found.path), "created_at": found.created_at}
        documents.append(document | {"used_by": _users(name)})
    click.echo(json.dumps(documents, indent=1))
    return 0


@volume.command("rm")
@click.argument("names", nargs=-1, required=True)
def remove_volumes(names: tuple[str, ...]) -> int:
    """Remove volumes with all their files."""
    from host.state import data_directory
    from host.volumes import VolumeStore

    store = VolumeStore(data_directory())
    for name in names:
        if users := _users(name):
            raise HostError(f"volume {name} is in use by sandbox {users[0]}", "stop and remove that first")
        store.remove(name)
        click.echo(name)
    return 0


def _users(name: str) -> list[str]:
    """The ids of the running sandboxes that use volume `name`.

    Their mounts are in their monitors' own mount namespaces, so the mount table cannot tell.
    """
    from host.state import SandboxStore

    return [
        sandbox.id
        for sandbox in SandboxStore().all()
        if sandbox.has_owner() and name in sandbox.read().options.volumes
    ]
