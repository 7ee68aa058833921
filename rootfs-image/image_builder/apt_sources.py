"""Which of the machine's own package sources lead to Debian.

The build names no mirror: it uses what apt is configured with, less the entries that are not
Debian's. Format: sources.list(5), both the one-line and the deb822 style.
"""

from __future__ import annotations

from pathlib import Path

from image_builder.errors import ImageBuildError

SUITE = "bookworm"
_SUITES = frozenset({SUITE, f"{SUITE}-updates", f"{SUITE}-security", f"{SUITE}/updates"})
# Debian archives, and only they, are laid out in these components.
_COMPONENTS = frozenset({"main", "contrib", "non-free", "non-free-firmware"})


def debian_sources(apt_directory: Path = Path("/etc/apt")) -> str:
    """The Debian entries of the machine's apt configuration, in the one-line style.

    Raises ImageBuildError when there is none for the release that the image is made of.
    """
    files = [apt_directory / "sources.list"]
    parts = apt_directory / "sources.list.d"
    if parts.is_dir():
        files += sorted(path for path in parts.iterdir() if path.suffix in {".list", ".sources"})
    lines: list[str] = []
    for path in files:
        if path.is_file():
            parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
            lines += parse(path.read_text())
    if not any(line.split()[-2] == SUITE for line in lines):
        raise ImageBuildError(
            f"apt has no source for Debian {SUITE}",
            hint=f"add one to {apt_directory / 'sources.list'}",
        )
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def parse_one_line(text: str) -> list[str]:
    """The Debian entries of a file in the one-line style, one line per suite."""
    found: list[str] = []
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if not line.startswith("deb "):
            continue
        rest = line[len("deb ") :].strip()
        options = ""
        if rest.startswith("["):
            options, _, rest = rest[1:].partition("]")
        words = rest.split()
        if len(words) >= 3:
            signed_by = next((item[10:] for item in options.split() if item.startswith("signed-by=")), "")
            found += _entries([words[0]], [words[1]], words[2:], signed_by)
    return found


def parse_deb822(text: str) -> list[str]:
    """The Debian entries of a file in the deb822 style, one line per address and suite."""
    found: list[str] = []
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            else:
                name, _, value = line.partition(":")
                name = name.lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        signed_by = fields.get("signed-by", "")
        found += _entries(
            fields.get("uris", "").split(),
            fields.get("suites", "").split(),
            fields.get("components", "").split(),
            signed_by if signed_by.startswith("/") else "",
        )
    return found


def _entries(addresses: list[str], suites: list[str], components: list[str], signed_by: str) -> list[str]:
    if "main" not in components or not set(components) <= _COMPONENTS:
        return []
    option = f"[signed-by={signed_by}] " if signed_by else ""
    return [
        f"deb {option}{address} {suite} main" for address in addresses for suite in suites if suite in _SUITES
    ]
