"""Names and addresses of disks. Expected values: the Kata runtime's utils_test.go, and the kernel's rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.errors import InvalidInput
from host.vm.disks import (
    Disk,
    NumberPool,
    overlay_command,
    pci_path,
    scsi_id_and_lun,
    virtio_disk_name,
)


@pytest.mark.parametrize(
    ("index", "name"),
    [(0, "vda"), (25, "vdz"), (26, "vdaa"), (51, "vdaz"), (701, "vdzz"), (702, "vdaaa")],
)
def test_virtio_disk_name(index: int, name: str) -> None:
    assert virtio_disk_name(index) == name


def test_virtio_disk_name_refuses_negative() -> None:
    with pytest.raises(ValueError, match="-1 is negative"):
        virtio_disk_name(-1)


@given(st.integers(0, 20000))
def test_virtio_disk_names_are_bijective_base_26(index: int) -> None:
    number = 0
    for letter in virtio_disk_name(index).removeprefix("vd"):
        number = number * 26 + ord(letter) - ord("a") + 1
    assert number - 1 == index


@pytest.mark.parametrize(
    ("index", "expected"), [(0, (0, 0)), (7, (0, 7)), (300, (1, 44)), (65535, (255, 255))]
)
def test_scsi_id_and_lun(index: int, expected: tuple[int, int]) -> None:
    assert scsi_id_and_lun(index) == expected


@pytest.mark.parametrize("index", [-1, 65536])
def test_scsi_index_out_of_range(index: int) -> None:
    with pytest.raises(ValueError, match=str(index)):
        scsi_id_and_lun(index)


def test_pci_path_is_hexadecimal() -> None:
    assert pci_path(2, 1) == "02/01"
    assert pci_path(2, 31) == "02/1f"


def test_number_pool_gives_the_lowest_free() -> None:
    pool = NumberPool(range(1, 4))
    assert [pool.take(), pool.take(), pool.take()] == [1, 2, 3]
    with pytest.raises(IndexError):
        pool.take()
    pool.give_back(3)
    pool.give_back(1)
    pool.give_back(1)
    assert [pool.take(), pool.take()] == [1, 3]
    with pytest.raises(IndexError):
        pool.take()


@pytest.mark.parametrize("disk_id", ["", "-x", "a" * 19, "a,b", "a b"])
def test_disk_refuses_ids_qemu_would_not_take(disk_id: str) -> None:
    with pytest.raises(InvalidInput, match="no disk id"):
        Disk(disk_id, Path("/x"))


def test_overlay_command_names_the_base_absolutely() -> None:
    command = overlay_command(Path("/bin/qemu-img"), Path("/images/base"), "raw", Path("/tmp/over"))
    assert command == [
        "/bin/qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        "/images/base",
        "-F",
        "raw",
        "/tmp/over",
    ]
