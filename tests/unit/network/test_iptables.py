"""Which of the iptables tools is called, with tools that only take notes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import KernelRefused, Unsupported
from agent.network.iptables import restore, save
from agent.processes.reaper import Reaper


@pytest.fixture
async def reaper() -> AsyncIterator[Reaper]:
    reaper = Reaper()
    reaper.start()
    yield reaper
    reaper.stop()


def put(directory: Path, *names: str, script: str = 'echo "$0 $*"; cat') -> str:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return str(directory)


@pytest.mark.parametrize(("ipv6", "family"), [(False, "iptables"), (True, "ip6tables")])
async def test_each_family_has_its_tools(reaper: Reaper, tmp_path: Path, ipv6: bool, family: str) -> None:
    places = [put(tmp_path / "first", f"{family}-save"), put(tmp_path / "second", f"{family}-restore")]
    answer = await save(reaper, ipv6=ipv6, directories=places)
    assert answer.decode() == f"{places[0]}/{family}-save \n"
    answer = await restore(reaper, b"rules\n", ipv6=ipv6, directories=places)
    assert answer.decode() == f"{places[1]}/{family}-restore --wait 5\nrules\n"


async def test_the_other_familys_tool_does_not_serve(reaper: Reaper, tmp_path: Path) -> None:
    place = put(tmp_path / "bin", "iptables-save", "ip6tables-save", "iptables-restore")
    with pytest.raises(Unsupported, match=r"no ip6tables-restore in .*: the guest needs iptables"):
        await restore(reaper, b"", ipv6=True, directories=[place])


async def test_a_refusal_is_quoted(reaper: Reaper, tmp_path: Path) -> None:
    place = put(tmp_path / "bin", "iptables-restore", script="echo line 2 failed >&2; exit 2")
    with pytest.raises(KernelRefused, match="failed with 2: line 2 failed"):
        await restore(reaper, b"nonsense\n", ipv6=False, directories=[place])
