"""Small facts about the guest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.containers.cpu_list import cpu_numbers
from agent.errors import CodedError, InvalidRequest, StatusCode
from agent.service.container_setup import guest_root_devices
from agent.service.guest_calls import has_memory_probe, memory_block_size
from agent.service.names import check_container_id, check_exec_id

MEMORY = "sys/devices/system/memory"


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(("text", "size"), [("8000000\n", 1 << 27), ("8000000", 1 << 27)])
def test_memory_block_size(tmp_path: Path, text: str, size: int) -> None:
    put(tmp_path, f"{MEMORY}/block_size_bytes", text)
    assert memory_block_size(tmp_path) == size


def test_a_kernel_without_memory_blocks(tmp_path: Path) -> None:
    assert memory_block_size(tmp_path) == 0


@pytest.mark.parametrize("text", ["", "\n", "many", "-1", "0x10", "1" * 17])
def test_a_block_size_that_is_none(tmp_path: Path, text: str) -> None:
    put(tmp_path, f"{MEMORY}/block_size_bytes", text)
    with pytest.raises(CodedError, match="Invalid block size") as caught:
        memory_block_size(tmp_path)
    assert caught.value.code is StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("acpi", "unless_acpi", "expected"),
    [(None, True, True), ("0", True, True), ("1", True, False), ("1", False, True)],
)
def test_the_probe(tmp_path: Path, acpi: str | None, unless_acpi: bool, expected: bool) -> None:
    assert not has_memory_probe(tmp_path, unless_acpi=unless_acpi)
    put(tmp_path, f"{MEMORY}/probe", "")
    if acpi is not None:
        put(tmp_path, "sys/firmware/acpi/hotplug/memory/enabled", acpi)
    assert has_memory_probe(tmp_path, unless_acpi=unless_acpi) is expected


@pytest.mark.parametrize(
    ("text", "numbers"), [("0", {0}), ("0-2,4", {0, 1, 2, 4}), ("3-3", {3}), (" 1 , 2 ", {1, 2})]
)
def test_cpu_lists(text: str, numbers: set[int]) -> None:
    assert cpu_numbers(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "0-99999999999", "\u0663"])
def test_bad_cpu_lists(text: str) -> None:
    with pytest.raises(InvalidRequest):
        cpu_numbers(text)


def test_the_disk_of_a_partition_is_denied_too(tmp_path: Path) -> None:
    number = os.stat("/").st_dev
    name = f"{os.major(number)}:{os.minor(number)}"
    disk = tmp_path / "devices/vda"
    put(disk, "vda1/partition", "1\n")
    put(disk, "dev", "254:0\n")
    (tmp_path / "dev/block").mkdir(parents=True)
    (tmp_path / "dev/block" / name).symlink_to(disk / "vda1")
    found = guest_root_devices(sysfs_root=str(tmp_path))
    expected = [(os.major(number), os.minor(number)), (254, 0)] if os.major(number) else []
    assert found == expected


@pytest.mark.parametrize("text", ["ab", "a.", "a..", "A-_.9", "x" * 255])
def test_container_ids(text: str) -> None:
    check_container_id(text)


@pytest.mark.parametrize(
    "text",
    ["", "a", ".", "..", "../x", "/x", "a/b", ".ab", "-ab", "_ab", " ab", "ab\n", "\u00e4b", "x" * 256],
)
def test_bad_container_ids(text: str) -> None:
    with pytest.raises(InvalidRequest, match="container id"):
        check_container_id(text)


@pytest.mark.parametrize("text", ["e", "e1", "0", "a.b-c_d"])
def test_exec_ids(text: str) -> None:
    check_exec_id(text)


@pytest.mark.parametrize("text", ["", ".", "..", "../x", "a/b", "-a", "a\n", "x" * 256])
def test_bad_exec_ids(text: str) -> None:
    with pytest.raises(InvalidRequest, match="exec id"):
        check_exec_id(text)
