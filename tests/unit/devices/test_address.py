"""Addresses: what is accepted, what is refused, and that printing undoes parsing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices.address import (
    CcwAddress,
    DeviceNode,
    MmioAddress,
    PciPath,
    PciSlot,
    PmemAddress,
    ScsiAddress,
)
from agent.errors import InvalidRequest

slots = st.builds(PciSlot, st.integers(0, 0x1F), st.integers(0, 7))
pci_paths = st.builds(PciPath, st.lists(slots, min_size=1, max_size=5).map(tuple)) | st.builds(
    PciPath, st.lists(slots, min_size=2, max_size=5).map(tuple), st.integers(0x20, 0xFF)
)


@given(pci_paths)
def test_pci_paths_survive_a_round_trip(path: PciPath) -> None:
    assert PciPath.parse(str(path)) == path


@given(st.builds(CcwAddress, st.integers(0, 3), st.integers(0, 0xFFFF)))
def test_ccw_addresses_survive_a_round_trip(address: CcwAddress) -> None:
    assert CcwAddress.parse(str(address)) == address


@given(st.builds(ScsiAddress, st.integers(0, 255), st.integers(0, 16383)))
def test_scsi_addresses_survive_a_round_trip(address: ScsiAddress) -> None:
    assert ScsiAddress.parse(str(address)) == address


@given(st.text(max_size=30) | st.from_regex(r"[0-9a-f./:]{0,12}", fullmatch=True))
@pytest.mark.parametrize("kind", [PciPath, CcwAddress, ScsiAddress, DeviceNode, MmioAddress, PmemAddress])
def test_any_text_is_parsed_or_refused(kind: type[PciPath], text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        assert kind.parse(str(kind.parse(text))) == kind.parse(text)


@pytest.mark.parametrize(
    ("text", "elements", "root_complex"),
    [
        ("02/03", ["02.0", "03.0"], 0),
        ("02.0/03.0", ["02.0", "03.0"], 0),
        ("1f", ["1f.0"], 0),
        ("2/1.7", ["02.0", "01.7"], 0),
        ("02/00/01", ["02.0", "00.0", "01.0"], 0),
        ("20/00/02", ["00.0", "02.0"], 0x20),
        ("fF/1F/0a", ["1f.0", "0a.0"], 0xFF),
    ],
)
def test_pci_paths(text: str, elements: list[str], root_complex: int) -> None:
    path = PciPath.parse(text)
    assert [str(slot) for slot in path.slots] == elements
    assert path.root_complex == root_complex


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "02/",
        "/02",
        "20",
        "20/02",
        "02/20",
        "02.8",
        "0x2",
        "+2",
        " 2",
        "1_0",
        "002",
        "0000:00:02.0",
        "٢",
    ],
)
def test_bad_pci_paths(text: str) -> None:
    with pytest.raises(InvalidRequest, match="PCI path"):
        PciPath.parse(text)


@pytest.mark.parametrize("text", ["0.0.0000", "0.2.1f3a", "0.3.FFFF", "0.0.1"])
def test_ccw_addresses(text: str) -> None:
    assert CcwAddress.parse(text).device_number == int(text.split(".")[2], 16)


@pytest.mark.parametrize(
    "text", ["", "1.0.0000", "0.4.0001", "0.-1.0000", "0.0.00001", "0.0.xyzw", "0.0", "0.0.0000.0", "00.0.1"]
)
def test_bad_ccw_addresses(text: str) -> None:
    with pytest.raises(InvalidRequest, match="ccw"):
        CcwAddress.parse(text)


@pytest.mark.parametrize(
    "text", ["", "0", "0:", ":1", "0:0:0", "256:0", "0:16384", "-1:0", "a:0", "1 :0", "٢:0"]
)
def test_bad_scsi_addresses(text: str) -> None:
    with pytest.raises(InvalidRequest, match="SCSI"):
        ScsiAddress.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/dev",
        "/dev/",
        "vda",
        "/devil/vda",
        "/dev/../etc/passwd",
        "/dev/a/../../etc",
        "/dev/a//b",
        "/dev/.x",
    ],
)
def test_bad_nodes(text: str) -> None:
    with pytest.raises(InvalidRequest, match="/dev"):
        DeviceNode.parse(text)


def test_a_node_below_a_directory_keeps_its_name() -> None:
    assert DeviceNode.parse("/dev/vfio/12").name == "vfio/12"


@pytest.mark.parametrize("text", ["/dev/vda", "/dev/pmem", "/dev/pmemx", "pmem0"])
def test_bad_pmem_nodes(text: str) -> None:
    with pytest.raises(InvalidRequest, match="persistent-memory"):
        PmemAddress.parse(text)
