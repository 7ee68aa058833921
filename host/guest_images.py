"""Where the built guest images are."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.state import data_directory
from host.vm.programs import PROJECT_ROOT

MANIFEST = "manifest.json"  # written last by the image builder


def guest_directory() -> Path:
    """The guest image in use: `$PYKATA_GUEST_DIR`, else the project's build, else that in the data directory.

    The first of these is returned where none exists.
    """
    named = os.environ.get("PYKATA_GUEST_DIR")
    places = [Path(named)] if named else [PROJECT_ROOT / "build" / "guest", data_directory() / "guest"]
    return next((place for place in places if (place / MANIFEST).is_file()), places[0])


@dataclass(frozen=True, slots=True)
class GuestImages:
    """The images in one directory: what the builder's manifest says of them."""

    directory: Path
    manifest: dict[str, Any]

    @classmethod
    def all(cls) -> list[GuestImages]:
        """Every directory with a finished build, the one in use first."""
        places = dict.fromkeys(
            [guest_directory(), PROJECT_ROOT / "build" / "guest", data_directory() / "guest"]
        )
        found = []
        for place in places:
            try:
                found.append(cls(place, json.loads((place / MANIFEST).read_text())))
            except (OSError, ValueError):
                continue
        return found
