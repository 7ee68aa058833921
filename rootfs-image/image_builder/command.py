"""The command line of the image builder."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from image_builder.builder import build_guest
from image_builder.disk_image import write_disk_image
from image_builder.errors import ImageBuildError
from image_builder.recipe import load_recipe

DISK = "kata-containers.img"
_PROJECT = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Build the guest image; return the exit status (1: it could not be built)."""
    options = _parser().parse_args(argv)
    started = time.monotonic()

    def progress(step: str) -> None:
        sys.stderr.write(f"image: {time.monotonic() - started:5.1f} s  {step}\n")

    try:
        if os.geteuid() != 0:
            raise ImageBuildError("building an image changes owners and needs root", hint="use sudo")
        manifest = build_guest(
            load_recipe(options.project, init_system=options.init),
            options.output,
            cache=options.cache,
            progress=progress,
            force=options.force,
        )
    except ImageBuildError as error:
        sys.stderr.write(f"image: {error}\n")
        return 1
    sizes = dict(manifest.sizes)
    if options.disk:
        disk = options.output / DISK
        write_disk_image(options.output / "rootfs.ext4", disk)
        sizes[DISK] = disk.stat().st_size
    for name, size in sizes.items():
        sys.stdout.write(f"{size / 1e6:8.1f} MB  {options.output / name}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    guest = Path(os.environ.get("PYKATA_GUEST_DIR") or _PROJECT / "build/guest")
    parser = argparse.ArgumentParser(prog="build.py", description="Build the guest image.")
    parser.add_argument(
        "--output", type=Path, default=guest, help="where the files go (default: %(default)s)"
    )
    parser.add_argument("--cache", type=Path, default=guest.parent / "image-cache", help="kept stages")
    parser.add_argument("--project", type=Path, default=_PROJECT, help=argparse.SUPPRESS)
    parser.add_argument("--init", choices=("agent", "systemd"), default="agent", help="what runs as PID 1")
    parser.add_argument("--disk", action="store_true", help=f"write {DISK} too, for a stock Kata runtime")
    parser.add_argument("--force", action="store_true", help="fetch all packages anew")
    return parser


if __name__ == "__main__":
    sys.exit(main())
