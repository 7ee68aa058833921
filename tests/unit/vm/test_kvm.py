"""The probe machine's firmware, and that its answer is remembered for one boot of the host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host.vm import kvm


@pytest.fixture
def probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A host with a /dev/kvm that does not work; returns the list of probes made."""
    made: list[str] = []

    def probe(accelerator: str) -> bool:
        made.append(accelerator)
        return False

    qemu = tmp_path / "qemu"
    qemu.touch()
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("boot-1\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kvm, "accelerator_works", probe)
    monkeypatch.setattr(kvm, "find_program", lambda _name: qemu)
    monkeypatch.setattr(kvm, "_BOOT_ID", boot_id)
    monkeypatch.setattr(kvm, "_KVM", tmp_path / "qemu")
    return made


def test_firmware_starts_at_the_reset_vector() -> None:
    firmware = kvm.probe_firmware()
    assert len(firmware) == 64 * 1024
    assert firmware[0xFFF0:0xFFF2] == b"\xb0K"


def test_no_device_no_probe(probes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "_KVM", tmp_path / "absent")
    assert kvm.best_accelerator() == "tcg"
    assert probes == []


def test_a_device_that_does_not_work_is_probed_once(probes: list[str]) -> None:
    assert [kvm.best_accelerator(), kvm.best_accelerator()] == ["tcg", "tcg"]
    assert probes == ["kvm"]


def test_a_working_one_is_remembered_too(probes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "accelerator_works", lambda _accelerator: True)
    assert kvm.best_accelerator() == "kvm"
    monkeypatch.setattr(kvm, "accelerator_works", lambda _accelerator: False)
    assert kvm.best_accelerator() == "kvm"


def test_another_boot_is_probed_again(probes: list[str], tmp_path: Path) -> None:
    kvm.best_accelerator()
    (tmp_path / "boot_id").write_text("boot-2\n")
    kvm.best_accelerator()
    assert probes == ["kvm", "kvm"]


@pytest.mark.parametrize("damage", ["", "{", "[]", json.dumps({"works": True})])
def test_a_damaged_cache_is_no_answer(probes: list[str], tmp_path: Path, damage: str) -> None:
    (tmp_path / "pykata").mkdir()
    (tmp_path / "pykata" / "kvm.json").write_text(damage)
    assert kvm.best_accelerator() == "tcg"
    assert probes == ["kvm"]
