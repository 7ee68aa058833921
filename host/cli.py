"""The command `pykata`. Each command lives in a file of its own, imported when it is called."""

from __future__ import annotations

import importlib
import itertools
import logging
import sys
import traceback

import click

from host.errors import HostError

# Name -> (module, attribute, one line for `pykata --help`), so that the help imports none of them.
COMMANDS = {
    "run": ("host.cli_run", "run", "Run a command in a new container in a VM of its own."),
    "exec": ("host.cli_exec", "execute", "Run another command in a running container."),
    "attach": ("host.cli_exec", "attach", "Connect to the command of a running container."),
    "ps": ("host.cli_inspect", "ps", "List sandboxes."),
    "inspect": ("host.cli_inspect", "inspect", "Print all that is known of sandboxes, as JSON."),
    "logs": ("host.cli_inspect", "logs", "Print the output of a container."),
    "wait": ("host.cli_stop", "wait", "Wait until sandboxes have ended and print how."),
    "stop": ("host.cli_stop", "stop", "End containers: SIGTERM first, SIGKILL later."),
    "kill": ("host.cli_stop", "kill", "Send the commands of containers a signal."),
    "rm": ("host.cli_stop", "rm", "Remove sandboxes and all that is left of them."),
    "volume": ("host.cli_volume", "volume", "List, inspect and remove named volumes."),
    "image": ("host.cli_image", "image", "Build and list guest images."),
    "ctl": ("host.cli_ctl", "ctl", "Call any method of an agent, JSON in and out."),
    "console": ("host.cli_console", "console", "Open a shell in a guest itself."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command called `cmd_name`."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show a traceback with every error.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="How much the host side logs; a sandbox's monitor logs to its monitor.log.",
)
@click.version_option(package_name="pykata", message="%(version)s")
@click.pass_context
def cli(context: click.Context, debug: bool, log_level: str) -> None:
    """Run containers in virtual machines of their own, driven by a Kata Containers agent.

    A container that ends by itself gives its own exit status. `pykata run` and `exec` answer 125 where
    they fail themselves, 126 for a command that cannot be executed and 127 for one that does not exist.
    """
    context.obj = {"debug": debug, "log_level": log_level}
    logging.basicConfig(level=log_level.upper(), format="%(levelname)s %(name)s: %(message)s")


def main() -> None:
    """Entry point of the console script."""
    # Ours stands before the command's name; one behind it may be the container's.
    debug = "--debug" in itertools.takewhile(lambda word: word not in COMMANDS, sys.argv[1:])
    try:
        status = cli.main(prog_name="pykata", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except click.Abort:  # click's name for a Ctrl-C
        status = 130
    except HostError as error:
        status = getattr(error, "status", 1)
        _complain(str(error), getattr(error, "trace", "") or traceback.format_exc(), debug=debug)
    except BrokenPipeError:  # `pykata logs NAME | head`
        sys.stdout = None  # nothing to flush at exit
        status = 141
    except Exception as error:  # noqa: BLE001 - one sentence for a bug too; `--debug` tells where
        status = 1
        text = f"internal error: {type(error).__name__}: {error}: run `pykata --debug ...` to see where"
        _complain(text, traceback.format_exc(), debug=debug)
    sys.exit(status if isinstance(status, int) else 0)


def _complain(text: str, trace: str, *, debug: bool) -> None:
    if debug:
        click.echo(trace.rstrip(), err=True)
    click.echo(f"pykata: {text}", err=True)
