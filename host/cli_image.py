"""`pykata image`: the guest image that VMs boot."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click

from host.errors import HostError, ToolMissing


@click.group()
def image() -> None:
    """Build and list guest images."""


@image.command("build")
@click.option("--force", is_flag=True, help="Fetch the packages anew, even if nothing has changed.")
def build(force: bool) -> int:
    """Build the guest image; costs next to nothing while what it is made of has not changed."""
    from host.vm.programs import PROJECT_ROOT

    script = PROJECT_ROOT / "rootfs-image" / "build.py"
    if not script.is_file():
        raise ToolMissing(
            "this installation has no image builder",
            "build the image in a checkout of the project, and point PYKATA_GUEST_DIR at build/guest",
        )
    if os.geteuid() != 0:
        raise HostError("the image can be built by root alone", "use sudo")
    command = [sys.executable, str(script), *(["--force"] if force else [])]
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        raise HostError(f"the image builder failed with status {status}", "see its messages above")
    return 0


@image.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_images(as_json: bool) -> int:
    """List the guest images there are, the one in use first."""
    from host.cli_inspect import print_table
    from host.guest_images import GuestImages

    images = GuestImages.all()
    if as_json:
        documents = [{"directory": str(one.directory), **one.manifest} for one in images]
        click.echo(json.dumps(documents, indent=1))
        return 0
    rows = [("DIRECTORY", "KERNEL", "AGENT", "FILES")]
    for one in images:
        sizes = one.manifest.get("sizes", {})
        files = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sizes.items())
        rows.append(
            (str(one.directory), one.manifest.get("kernel", ""), one.manifest.get("agent", ""), files)
        )
    print_table(rows)
    return 0
