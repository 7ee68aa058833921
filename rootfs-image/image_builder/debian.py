"""Debian packages as a tree of files."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from image_builder.apt_sources import SUITE, debian_sources
from image_builder.commands import run

_VERSIONS = "package-versions.txt"
# Both halves of a merged /usr must be there before the first package is unpacked.
_MERGE_USR = 'cd "$1" && mkdir -p {d} && for d in bin sbin lib lib64; do ln -s usr/$d $d; done'.format(
    d="usr/bin usr/sbin usr/lib usr/lib64"
)
_LIST_PACKAGES = 'cd "$1"/var/cache/apt/archives && printf "%s\\n" *.deb > {file}'


def extract_packages(packages: Sequence[str], target: Path) -> dict[str, str]:
    """Unpack `packages` and what they depend on into `target`; return their versions by name.

    No package is configured: no script of a package runs, so neither /proc nor a namespace is
    needed, and the whole takes seconds. mmdebstrap(1), variant `extract`. Raises ImageBuildError.
    """
    with tempfile.TemporaryDirectory(prefix="pykata-image-") as scratch:
        sources = Path(scratch, "debian.list")
        sources.write_text(debian_sources())
        versions = Path(scratch, _VERSIONS)
        run(
            [
                "mmdebstrap",
                "--mode=root",
                "--variant=extract",
                "--format=directory",
                f"--include={','.join(packages)}",
                f"--setup-hook={_MERGE_USR}",
                f"--extract-hook={_LIST_PACKAGES.format(file=shlex.quote(str(versions)))}",
                SUITE,
                str(target),
                str(sources),
            ]
        )
        return parse_package_files(versions.read_text().split())


def parse_package_files(names: Sequence[str]) -> dict[str, str]:
    """Versions by package name, from the names of package files (`NAME_VERSION_ARCH.deb`)."""
    versions = {}
    for file in sorted(names):
        name, _, rest = file.removesuffix(".deb").partition("_")
        version, _, _ = rest.rpartition("_")
        versions[name] = version.replace("%3a", ":")
    return versions
