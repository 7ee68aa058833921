"""The kernel out of its self-extracting wrapper.

A bzImage unpacks itself when it starts; without hardware virtualisation that costs four seconds of
every boot (own measurement: Debian's 6.1, xz, QEMU TCG). QEMU boots the plain ELF file just as
well, through its PVH entry, and so do Firecracker and Cloud Hypervisor, which take nothing else.
Format: kernel.org, Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable

from image_builder.errors import ImageBuildError

_MAGIC_AT, _MAGIC = 0x202, b"HdrS"
_SETUP_SECTORS_AT, _DEFAULT_SETUP_SECTORS, _SECTOR_BYTES = 0x1F1, 4, 512
_PAYLOAD_AT = 0x248  # payload_offset and payload_length, since protocol 2.08
_ELF = b"\x7fELF"


def extract_kernel(wrapped: bytes) -> bytes:
    """The ELF kernel that the bzImage `wrapped` carries.

    Raises ImageBuildError for something that is no bzImage, or is packed in a way not known here.
    """
    if wrapped[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        raise ImageBuildError("the kernel is not a bzImage")
    sectors = wrapped[_SETUP_SECTORS_AT] or _DEFAULT_SETUP_SECTORS
    offset, length = struct.unpack_from("<II", wrapped, _PAYLOAD_AT)
    begin = (sectors + 1) * _SECTOR_BYTES + offset
    payload = wrapped[begin : begin + length]
    kernel = _unpacker(payload)(payload)
    if not kernel.startswith(_ELF):
        raise ImageBuildError("the kernel in the bzImage is not an ELF file")
    return kernel


def _unpacker(payload: bytes) -> Callable[[bytes], bytes]:
    """How `payload` is unpacked. Behind it stands its unpacked size, which an unpacker leaves alone."""
    if payload.startswith(b"\xfd7zXZ\0"):
        return lambda data: lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(data)
    if payload.startswith(b"\x1f\x8b"):
        return lambda data: zlib.decompressobj(wbits=31).decompress(data)
    if payload.startswith(_ELF):
        return bytes
    raise ImageBuildError(f"the kernel is packed in a way not known here ({payload[:6].hex()})")
