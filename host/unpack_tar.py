"""Unpack a tar from standard input into a directory, as a program of its own.

A program of its own because it confines itself: it makes the directory its root (chroot(2)) before
it reads a single name. Whatever the archive says - absolute names, `..`, links that lead out, links
to links - the kernel keeps it inside, without any comparing of strings. Owners, modes, devices and
extended attributes are kept. It imports nothing but the standard library, so that it can be run by
its path in Python's isolated mode. `host.rootfs` runs it.
"""

from __future__ import annotations

# The decompressors are imported before the root changes; the files they come from are out of reach then.
import bz2  # noqa: F401
import gzip  # noqa: F401
import lzma
import os
import sys
import tarfile
import zlib

# How GNU tar and bsdtar put extended attributes into a pax header.
_XATTR_PREFIX = "SCHILY.xattr."


def _unpack(archive: tarfile.TarFile) -> None:
    """Unpack everything below the current root."""
    archive.extraction_filter = _as_it_is
    archive.extractall("/", numeric_owner=True)
    for member in archive.getmembers():
        for key, value in member.pax_headers.items():
            if key.startswith(_XATTR_PREFIX) and not member.issym():
                _set_attribute(f"/{member.name}", key.removeprefix(_XATTR_PREFIX), value)


def _as_it_is(member: tarfile.TarInfo, _directory: str) -> tarfile.TarInfo:
    """The filter "fully_trusted", which the tarfile of Python 3.11 has only since 3.11.4."""
    return member


def _set_attribute(path: str, name: str, value: str) -> None:
    # tarfile decodes pax values as UTF-8, what is none of it with surrogateescape.
    os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)


def main() -> int:
    """Unpack standard input into the directory that is the first argument; the exit status."""
    directory = sys.argv[1]
    try:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r:*") as archive:
            os.chroot(directory)
            os.chdir("/")
            _unpack(archive)
    except (tarfile.TarError, OSError, EOFError, KeyError, zlib.error, lzma.LZMAError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
