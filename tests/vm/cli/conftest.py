"""A command line per module, with a small root filesystem, and nothing left behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host.demo_rootfs import make_busybox_rootfs
from tests.vm.cli.command_line import CommandLine


@pytest.fixture(scope="module")
def pykata(count_boot: Callable[[], None]) -> Iterator[CommandLine]:
    """`pykata` with directories of this module's own; its sandboxes are removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="pykata-cli-"))  # sockets allow no long path
    command = CommandLine(directory, make_busybox_rootfs(directory / "rootfs"), count_boot)
    yield command
    names = [sandbox.id for sandbox in command.store.all()]
    if names:
        command("rm", "-f", *names)
    left = command.left([])
    shutil.rmtree(directory)
    assert left == []
