"""The example of a third party's storage driver, installed the way its author's users would."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples/storage-driver-loop"


def install_example(directory: Path) -> Path:
    """Install the example below `directory`, without a network; what is to be put on Python's path."""
    source, site = directory / "source", directory / "site"
    shutil.copytree(EXAMPLE, source)  # the build leaves files beside what it builds
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    command = [sys.executable, "-m", "pip", "install", *offline, f"--target={site}", str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return site
