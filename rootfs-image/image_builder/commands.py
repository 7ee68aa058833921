"""Running the programs that the build is made of."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from image_builder.errors import ImageBuildError

# Where each program comes from on Debian, for the message when it is missing.
_DEBIAN_PACKAGE = {
    "chroot": "coreutils",
    "cp": "coreutils",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "zstd": "zstd",
}
_TAIL_LINES = 15


def program(name: str) -> str:
    """The path of `name`; raises ImageBuildError that names the Debian package when it is missing."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise ImageBuildError(
            f"{name} is not installed", hint=f"apt-get install {_DEBIAN_PACKAGE.get(name, name)}"
        )
    return path


def run(argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run `argv` and return its standard output.

    Raises ImageBuildError with the command as it can be pasted and the end of its error output.
    """
    done = subprocess.run(
        [program(argv[0]), *argv[1:]],
        cwd=cwd,
        env=None if env is None else {**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).rstrip().splitlines()[-_TAIL_LINES:])
        raise ImageBuildError(f"`{shlex.join(argv)}` ended with status {done.returncode}:\n{tail}")
    return done.stdout


def run_inside(root: Path, argv: Sequence[str]) -> str:
    """Run `argv` with `root` as its root directory; needs root and the same CPU architecture."""
    return run(["chroot", str(root), *argv], env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8"})
