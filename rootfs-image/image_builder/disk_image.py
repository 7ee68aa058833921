"""The root filesystem as the disk that a stock Kata runtime gives to its virtual machine.

One partition, twice described: for a reader of the whole disk (`/dev/vda1`), and for the kernel's
pmem driver, which skips what the NVDIMM header at 4 KiB tells it to (`/dev/pmem0p1`). Layout:
kata-containers tools/osbuilder/image-builder (nsdax.gpl.c and image_builder.sh); the header is
struct nd_pfn_sb of the kernel's drivers/nvdimm/pfn.h.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from pathlib import Path
from typing import IO

_SECTOR = 512
_MIB = 1 << 20
_HEADER_AT = 4096
_HEADER_BYTES = 4096
_DATA_OFFSET = 2 * _MIB
_FIRST_SECTOR_OF_PARTITION = _MIB // _SECTOR
_ALIGNMENT = 128 * _MIB  # of an NVDIMM: the runtime maps the file whole
_LINUX = 0x83
_COPY_BYTES = _MIB

_PFN_MODE_RAM = 1
_CHECKSUM_AT = _HEADER_BYTES - 8


def pfn_header() -> bytes:
    """The NVDIMM header: the data begins 2 MiB in, page structures live in RAM."""
    header = bytearray(_HEADER_BYTES)
    header[:16] = b"NVDIMM_PFN_INFO\0"
    struct.pack_into("<HH", header, 0x34, 0, 2)  # version 0.2
    struct.pack_into("<QQI", header, 0x38, _DATA_OFFSET, 0, _PFN_MODE_RAM)
    struct.pack_into("<I", header, 0x54, _DATA_OFFSET)  # alignment
    struct.pack_into("<Q", header, _CHECKSUM_AT, fletcher64(header))
    return bytes(header)


def fletcher64(data: bytes | bytearray) -> int:
    """The kernel's nd_fletcher64 over little-endian 32-bit words: sums, and the sum of the sums."""
    words: tuple[int, ...] = struct.unpack(f"<{len(data) // 4}I", data)
    sums = [total & 0xFFFFFFFF for total in accumulate(words)]
    low = sums[-1] if sums else 0
    return (sum(sums) & 0xFFFFFFFF) << 32 | low


def boot_record(first_sector: int, sectors: int) -> bytes:
    """A DOS partition table with one Linux partition. Cylinders and heads are left out: nobody reads them."""
    record = bytearray(_SECTOR)
    struct.pack_into(
        "<B3sB3sII", record, 446, 0, b"\xfe\xff\xff", _LINUX, b"\xfe\xff\xff", first_sector, sectors
    )
    record[510:512] = b"\x55\xaa"
    return bytes(record)


def write_disk_image(filesystem: Path, target: Path) -> None:
    """Write `filesystem` into a disk as described above, sparse where nothing is. Raises OSError."""
    size = filesystem.stat().st_size
    begin = _DATA_OFFSET + _FIRST_SECTOR_OF_PARTITION * _SECTOR
    sectors = size // _SECTOR
    with filesystem.open("rb") as source, target.open("wb") as disk:
        disk.truncate((begin + size + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT)
        disk.write(boot_record(begin // _SECTOR, sectors))
        disk.seek(_HEADER_AT)
        disk.write(pfn_header())
        disk.seek(_DATA_OFFSET)
        disk.write(boot_record(_FIRST_SECTOR_OF_PARTITION, sectors))
        disk.seek(begin)
        _copy_sparse(source, disk)


def _copy_sparse(source: IO[bytes], disk: IO[bytes]) -> None:
    while chunk := source.read(_COPY_BYTES):
        if any(chunk):
            disk.write(chunk)
        else:
            disk.seek(len(chunk), 1)
