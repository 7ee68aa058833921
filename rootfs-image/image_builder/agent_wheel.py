"""The agent and the packages it needs, as an installed tree."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from image_builder.commands import run
from image_builder.errors import ImageBuildError
from image_builder.trim import remove

# Binary wheels for the guest's interpreter, whatever runs the build.
_GUEST_PYTHON = (
    "--only-binary=:all:",
    "--python-version=3.11",
    "--implementation=cp",
    "--abi=cp311",
    "--abi=abi3",
    "--abi=none",
    "--platform=manylinux2014_x86_64",
    "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_34_x86_64",  # Debian 12 has glibc 2.36
    "--platform=any",
)
# Of the agent's packages: test suites, and C sources that only a compiler reads.
_SUPERFLUOUS = ("bin", "*/tests", "*/test", "**/*.pyx", "**/*.pxd", "**/*.pxi")


def install_dependencies(requirements: Sequence[str], target: Path) -> None:
    """Install `requirements` as wheels for the guest into `target`. Raises ImageBuildError."""
    _pip("install", *_GUEST_PYTHON, "--no-compile", f"--target={target}", *requirements)
    for pattern in _SUPERFLUOUS:
        for path in sorted(target.glob(pattern)):
            if path.exists():
                remove(path)


def install_agent(project: Path, target: Path) -> str:
    """Build the project's wheel and install it into `target`; return the wheel's name.

    A wheel, not copied folders: storage handlers are found by its metadata. Raises ImageBuildError.
    """
    with tempfile.TemporaryDirectory(prefix="pykata-wheel-") as scratch:
        _pip("wheel", "--no-deps", f"--wheel-dir={scratch}", str(project))
        wheels = sorted(Path(scratch).glob("*.whl"))
        if len(wheels) != 1:
            raise ImageBuildError(f"expected one wheel of the project, found {wheels}")
        _pip("install", "--no-deps", "--no-compile", f"--target={target}", str(wheels[0]))
        for path in (target / "host", target / "image_builder", target / "bin"):
            if path.exists():  # the host's side has no business in the guest
                remove(path)
        return wheels[0].name


def _pip(verb: str, *arguments: str) -> None:
    run(
        [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check", *arguments],
        env={"PIP_ROOT_USER_ACTION": "ignore"},
    )
