"""The vsock daemon: where it is, and how it is built. `python -m host.vm.vsock_daemon` builds it.

The crate vhost-device-vsock is pinned and built once into the project's `build/bin`. It is built
with its default features: without them 0.3.0 does not compile.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from host.errors import HostError, ToolMissing
from host.vm.programs import PROJECT_ROOT

CRATE = "vhost-device-vsock"
VERSION = "0.3.0"
BUILT = PROJECT_ROOT / "build" / "bin" / CRATE
DAEMON_VARIABLE = "PYKATA_VSOCK_DAEMON"
_SYSTEM_CARGO = Path("/usr/bin/cargo")

# The highest `rust-version` that the crate's locked dependencies ask for.
_MINIMUM_RUST = (1, 74)
# Debian 12's plain cargo is 1.63; its package cargo-web brings a current one under the same name.
_CARGO_HINT = "run `apt-get install cargo-web`, or install Rust by rustup"

logger = logging.getLogger("pykata.vm")


def find_daemon() -> Path:
    """The daemon's program: `$PYKATA_VSOCK_DAEMON`, the project's build, or PATH.

    Raises ToolMissing if it is in none of these places.
    """
    named = os.environ.get(DAEMON_VARIABLE)
    if named:
        if os.access(named, os.X_OK):
            return Path(named)
        raise ToolMissing(f"{DAEMON_VARIABLE} names {named}, which is no program", "correct or unset it")
    if os.access(BUILT, os.X_OK):
        return BUILT
    on_path = shutil.which(CRATE)
    if on_path:
        return Path(on_path)
    raise ToolMissing(
        f"this host's kernel has no vhost-vsock, and the program {CRATE} is not built", "run `make setup`"
    )


def find_cargo() -> Path:
    """A cargo that is recent enough. Raises ToolMissing, naming what was found instead."""
    places = [
        os.environ.get("CARGO"),
        shutil.which("cargo"),
        Path.home() / ".cargo/bin/cargo",
        _SYSTEM_CARGO,
    ]
    refused = []
    for place in places:
        if place and os.access(place, os.X_OK):
            version = _cargo_version(Path(place))
            if version >= _MINIMUM_RUST:
                return Path(place)
            refused.append(f"{place} is {'.'.join(map(str, version))}")
    found = f" ({', '.join(dict.fromkeys(refused))})" if refused else ""
    needed = ".".join(map(str, _MINIMUM_RUST))
    raise ToolMissing(f"no cargo of version {needed} or later was found{found}", _CARGO_HINT)


def _cargo_version(cargo: Path) -> tuple[int, ...]:
    """The version `cargo --version` tells; (0,) if it tells none."""
    done = subprocess.run([cargo, "--version"], capture_output=True, text=True, check=False)
    match = re.match(r"cargo (\d+)\.(\d+)", done.stdout)
    return tuple(map(int, match.groups())) if match else (0,)


def install_command(cargo: Path, root: Path) -> list[str]:
    """The command that builds the daemon into `root`/bin, with the versions its author locked."""
    return [
        str(cargo),
        *("install", "--locked", "--version", VERSION),
        *("--root", str(root), "--no-track"),
        CRATE,
    ]


def build_daemon(destination: Path = BUILT) -> Path:
    """Build the daemon, unless `destination` has it; takes about a minute.

    Raises ToolMissing without a recent cargo, HostError with cargo's last words if the build fails.
    """
    if os.access(destination, os.X_OK):
        return destination
    cargo = find_cargo()
    logger.info("building %s %s with %s", CRATE, VERSION, cargo)
    with tempfile.TemporaryDirectory(prefix="pykata-cargo-") as work:
        # rustc must be the one beside this cargo, not an older one that PATH names first.
        path = os.pathsep.join([str(cargo.parent), os.environ.get("PATH", os.defpath)])
        environment = {**os.environ, "CARGO_TARGET_DIR": f"{work}/target", "PATH": path}
        command = install_command(cargo, Path(work))
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            last_words = "\n".join(done.stderr.strip().splitlines()[-8:])
            raise HostError(f"cargo could not build {CRATE} {VERSION}", last_words)
        destination.parent.mkdir(parents=True, exist_ok=True)
        # Moved within one directory at the end, so that no half-copied program is ever found.
        partial = destination.with_suffix(".partial")
        shutil.copy2(f"{work}/bin/{CRATE}", partial)
        partial.rename(destination)
    return destination


def main() -> int:
    """Build the daemon and say where it is."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        logger.info("%s", build_daemon())
    except HostError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
