"""The guest kernel without its decompressor.

A distribution's kernel unpacks itself, which an emulated processor does slowly: the Debian kernel
(xz) spends 3.9 of 6.9 seconds there before its first line (measured, QEMU 7.2, TCG). QEMU can enter
an uncompressed kernel directly by its PVH entry point, so it is unpacked once, outside the guest.
Such a kernel runs at its link address: it gives up KASLR's physical randomisation.

Sources: Linux Documentation/arch/x86/boot.rst (header fields), xen/include/public/elfnote.h.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from host.vm.programs import cache_dir

_KEPT_KERNELS = 3

_SETUP_SECTORS = 0x1F1
_MAGIC = 0x202
_VERSION = 0x206
_PAYLOAD = 0x248  # payload_offset and payload_length, both u32, since protocol 2.08
_PAYLOAD_SINCE = 0x0208

_PT_NOTE = 4
_XEN_ELFNOTE_PHYS32_ENTRY = 18


def _unxz(data: bytes) -> bytes:
    """Unpack an xz stream and ignore the size field that the kernel build appends to it."""
    return lzma.LZMADecompressor().decompress(data)


_UNPACKERS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\xfd7zXZ\x00", _unxz),
    (b"\x1f\x8b\x08", lambda data: gzip.decompress(data[:-4])),
    (b"\x7fELF", lambda data: data),
)


def unpack_kernel(image: bytes) -> bytes | None:
    """The ELF kernel inside the bzImage `image`; None if it is packed in a way we do not know."""
    if image[_MAGIC : _MAGIC + 4] != b"HdrS":
        return None
    (version,) = struct.unpack_from("<H", image, _VERSION)
    if version < _PAYLOAD_SINCE:
        return None
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = ((image[_SETUP_SECTORS] or 4) + 1) * 512 + offset
    payload = image[start : start + length]
    for magic, unpack in _UNPACKERS:
        if payload.startswith(magic):
            return unpack(payload)
    return None


def has_pvh_entry(elf: bytes) -> bool:
    """Whether the 64-bit ELF kernel carries the note that tells QEMU where to enter it."""
    if elf[:5] != b"\x7fELF\x02":
        return False
    (table,) = struct.unpack_from("<Q", elf, 32)
    entry_size, count = struct.unpack_from("<HH", elf, 54)
    for index in range(count):
        kind, _flags, offset, _vaddr, _paddr, size = struct.unpack_from(
            "<IIQQQQ", elf, table + index * entry_size
        )
        if kind == _PT_NOTE and _has_note(elf[offset : offset + size], b"Xen", _XEN_ELFNOTE_PHYS32_ENTRY):
            return True
    return False


def _has_note(notes: bytes, name: bytes, kind: int) -> bool:
    """Whether an ELF note section holds a note of this name and kind (elf(5): Nhdr)."""
    at = 0
    while at + 12 <= len(notes):
        name_size, value_size, note_kind = struct.unpack_from("<III", notes, at)
        if note_kind == kind and notes[at + 12 : at + 12 + name_size].rstrip(b"\0") == name:
            return True
        at += 12 + _round_up(name_size) + _round_up(value_size)
    return False


def _round_up(size: int) -> int:
    return (size + 3) & ~3


def kernel_to_boot(kernel: Path) -> Path:
    """The fastest form of `kernel`: unpacked and kept in the cache, or `kernel` itself.

    Costs a second the first time and ten milliseconds after. Raises OSError if `kernel` cannot be
    read or the cache not written.
    """
    image = kernel.read_bytes()
    directory = cache_dir() / "kernels"
    unpacked = directory / f"{hashlib.sha256(image).hexdigest()[:24]}.elf"
    if unpacked.exists():
        os.utime(unpacked)
        return unpacked
    elf = unpack_kernel(image)
    if elf is None or not has_pvh_entry(elf):
        return kernel
    directory.mkdir(mode=0o700, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
        file.write(elf)
    Path(file.name).rename(unpacked)
    _forget_old_kernels(directory)
    return unpacked


def _forget_old_kernels(directory: Path) -> None:
    """Keep the kernels that were used last; each is some 60 MB."""
    kernels = sorted(directory.glob("*.elf"), key=lambda file: file.stat().st_mtime, reverse=True)
    for kernel in kernels[_KEPT_KERNELS:]:
        kernel.unlink(missing_ok=True)
