"""`pykata run`."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host.cli_options import EnumChoice, check_terminal, command_after, environment, failing_with_125
from host.errors import HostError, InvalidInput
from host.run_options import (
    ImageForm,
    Network,
    RootfsDriver,
    RunOptions,
    SharedFs,
    Wire,
    check_name,
    parse_memory,
)

if TYPE_CHECKING:
    from host.container_config import Mount
    from host.monitor_client import LaunchedMonitor
    from host.state import Sandbox, SandboxStore


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--rm", "remove", is_flag=True, help="Remove the sandbox when the command has ended.")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Start in the background and print the sandbox's id.")
@click.option("-q", "--quiet", is_flag=True, help="Do not show the steps of the start.")
@click.option("--name", default="", help="Name of the sandbox; its id if there is none.")
@click.option(
    "-v",
    "--volume",
    "volumes",
    multiple=True,
    metavar="SRC:DST[:ro]",
    help="Mount a directory, file or named volume.",
)
@click.option(
    "-e", "--env", multiple=True, metavar="K[=V]", help="Set a variable; without =V, as it is here."
)
@click.option("-w", "--workdir", default="", metavar="DIR", help="Working directory in the container.")
@click.option("-u", "--user", default="", metavar="USER[:GROUP]", help="Run as this user.")
@click.option(
    "--memory", default="1024M", show_default=True, metavar="M", help="Memory of the VM, as 512M or 2G."
)
@click.option(
    "--cpus",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Processors of the VM.",
)
@click.option(
    "--shared-fs",
    type=EnumChoice(SharedFs),
    default=SharedFs.PLAN9.value,
    show_default=True,
    help="What shares directories with the guest.",
)
@click.option(
    "--rootfs-driver",
    type=EnumChoice(RootfsDriver),
    default=RootfsDriver.SHARED.value,
    show_default=True,
    help="How the root filesystem reaches the guest.",
)
@click.option(
    "--wire",
    type=EnumChoice(Wire),
    default=Wire.TTRPC.value,
    show_default=True,
    help="The protocol spoken to the agent.",
)
@click.option("--tmpfs", multiple=True, metavar="DST[:OPTS]", help="Mount a tmpfs, as /tmp:size=16m.")
@click.option(
    "--network",
    type=EnumChoice(Network),
    default=Network.USER.value,
    show_default=True,
    help="Its network.",
)
@click.option("-p", "--publish", "ports", multiple=True, metavar="HOST:GUEST", help="Publish a port.")
@click.option("--hostname", default="", help="Host name of the container.")
@click.option(
    "--image-form",
    type=EnumChoice(ImageForm),
    default=ImageForm.IMAGE.value,
    show_default=True,
    help="Form of the guest image.",
)
@click.option("--debug-console", is_flag=True, help="Let `pykata console` open a shell in the guest.")
@click.option("--json", "as_json", is_flag=True, help="With -d: print id and name as JSON.")
@click.argument("rootfs")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
@failing_with_125
def run(settings: dict[str, Any], rootfs: str, command: tuple[str, ...], **given: Any) -> int:  # noqa: ANN401 - click's values
    """Run CMD in a new container whose root filesystem is ROOTFS, in a VM of its own.

    ROOTFS is a directory, a tar or an ext4 or xfs image; it is never written. The exit status is CMD's.
    Ctrl-C ends everything; with -t it goes to the command, and Ctrl-P Ctrl-Q detaches.
    """
    from host.state import SandboxStore  # the run itself is imported once its arguments are right

    detach, quiet, as_json = (bool(given.pop(word)) for word in ("detach", "quiet", "as_json"))
    options = run_options(rootfs, command_after(command), settings["log_level"], given)
    if os.geteuid() != 0:
        raise HostError("a sandbox needs mounts, which root alone can make", "use sudo")
    if not detach:
        check_terminal(interactive=options.interactive, tty=options.tty)
    return asyncio.run(_run(SandboxStore(), options, detach=detach, quiet=quiet, as_json=as_json))


def run_options(rootfs: str, command: tuple[str, ...], log_level: str, given: dict[str, Any]) -> RunOptions:
    """Check what the user has given and complete it. Raises InvalidInput."""
    from host.network import PublishedPort
    from host.terminal import window_of

    path = Path(rootfs)
    if not path.exists():
        raise InvalidInput(
            f"the root filesystem {rootfs} does not exist", "give a directory, a tar or a disk image"
        )
    if not command:
        raise InvalidInput("there is no command to run", "put it behind ROOTFS, as `pykata run ROOTFS -- sh`")
    if given["name"]:
        check_name(given["name"])
    given["memory_mib"] = parse_memory(given.pop("memory"))
    given["env"] = environment(given["env"])
    given["mounts"], given["volumes"] = _mounts(given.pop("volumes"), given.pop("tmpfs"))
    given["ports"] = tuple(PublishedPort.parse(port) for port in given["ports"])
    if given["ports"] and given["network"] is Network.NONE:
        raise InvalidInput("a VM without a network cannot publish ports", "leave out -p or --network none")
    return RunOptions(
        rootfs=str(path.resolve()),
        command=command,
        window=window_of(0) if given["tty"] else None,
        log_level=log_level if log_level != "warning" else "info",
        **given,
    )


def _mounts(
    volumes: tuple[str, ...], tmpfs_texts: tuple[str, ...]
) -> tuple[tuple[Mount, ...], tuple[str, ...]]:
    """The mounts that -v and --tmpfs ask for, and the named volumes among them, which are made here."""
    from host.oci_spec import merge_mounts
    from host.state import data_directory
    from host.volumes import VolumeStore, parse_volume, tmpfs_mount, volume_mount

    store = VolumeStore(data_directory())
    arguments = [parse_volume(text) for text in volumes]
    names = tuple(argument.source for argument in arguments if argument.is_named)
    mounts = [volume_mount(argument, store) for argument in arguments]
    for number, text in enumerate(tmpfs_texts):
        # The guest makes it and the container binds it, by a name of its own in the sandbox.
        tmpfs = tmpfs_mount(text)
        options = ("rbind", *tmpfs.options)
        mounts.append(replace(tmpfs, type="ephemeral", source=f"tmpfs-{number}", options=options))
    merge_mounts((), mounts)  # raises where two have one destination
    return tuple(mounts), names


async def _run(store: SandboxStore, options: RunOptions, *, detach: bool, quiet: bool, as_json: bool) -> int:
    """Make the sandbox, start its monitor, and stay with it for as long as the user does."""
    from host.foreground import Foreground, Streams
    from host.monitor_client import Connection, MonitorGone, launch_monitor
    from host.monitor_protocol import Attach
    from host.progress import StepDisplay

    sandbox, owner = store.create(options)
    launched = launch_monitor(sandbox, owner)
    foreground: Foreground | None = None
    try:
        # Closed on every way out: without its first client the monitor takes everything down.
        with launched.socket:
            connection = await Connection.of_socket(launched.socket)
            streams = Streams() if detach else Streams(interactive=options.interactive, tty=options.tty)
            foreground = Foreground(connection, streams, StepDisplay(quiet=quiet))
            try:
                request = Attach(lifeline=True, streams=not detach)
                status = await foreground.run(request, leave_when_started=detach)
            finally:
                await connection.close()
    except MonitorGone as error:
        raise _after_death(store, sandbox, error) from error
    finally:
        if foreground is None or not foreground.left:
            await _ended(launched)
    if detach:
        name = options.name or sandbox.id
        click.echo(json.dumps({"id": sandbox.id, "name": name}) if as_json else sandbox.id)
    return status


async def _ended(launched: LaunchedMonitor) -> None:
    """Wait until the monitor has taken everything down; it has its own deadlines."""
    await asyncio.get_running_loop().run_in_executor(None, launched.process.wait)


def _after_death(store: SandboxStore, sandbox: Sandbox, error: HostError) -> HostError:
    """The monitor was killed, and its VM with it: clear up if that was its task, and say so."""
    from host.sandbox_cleanup import clear_away
    from host.vm.children import tail

    last_line = tail(sandbox.monitor_log, 1)
    # A line of the log begins with its date; one that does not is the end of a traceback.
    reason = f" ({last_line})" if last_line and not last_line[0].isdigit() else ""
    sandbox.wait_for_owner()
    try:
        clears_up = sandbox.read().options.remove
    except HostError:  # it died while it removed itself
        clears_up = True
    if clears_up:
        clear_away(store, sandbox)
    hint = "nothing is left of it" if clears_up else f"`pykata rm {sandbox.id}` removes what is left"
    return HostError(f"{error.message}{reason}", hint)
