"""Sandboxes on disk: names, owners, records."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from host.errors import HostError, InvalidInput
from host.process_identity import ProcessIdentity
from host.run_options import RunOptions
from host.sandbox_cleanup import clear_away
from host.state import Phase, Sandbox, SandboxStore

OPTIONS = RunOptions("/srv/root", ("true",))


def make(store: SandboxStore, name: str = "", *, owned: bool = False) -> Sandbox:
    """A sandbox; unless `owned`, as one whose monitor has died."""
    sandbox, owner = store.create(replace(OPTIONS, name=name))
    if not owned:
        os.close(owner)
    return sandbox


def test_a_sandbox_is_found_by_name_id_and_the_beginning_of_its_id(store: SandboxStore) -> None:
    made = make(store, "web")
    make(store, "db")
    for reference in ("web", made.id, made.id[:6]):
        assert store.find(reference).path == made.path


def test_an_id_that_begins_two_is_ambiguous(store: SandboxStore) -> None:
    for identifier in ("abc1", "abc2"):
        (store.directory / identifier).mkdir(parents=True)
    with pytest.raises(InvalidInput, match="begins the ids of 2"):
        store.find("abc")


@pytest.mark.parametrize("reference", ["", "nobody", "../../etc", "."])
def test_a_sandbox_that_does_not_exist_is_not_found(store: SandboxStore, reference: str) -> None:
    make(store, "web")
    with pytest.raises(InvalidInput, match="there is no sandbox"):
        store.find(reference)


def test_a_name_belongs_to_one_sandbox(store: SandboxStore) -> None:
    first = make(store, "web")
    with pytest.raises(InvalidInput, match=f"the name web is taken by sandbox {first.id}"):
        make(store, "web")
    with pytest.raises(InvalidInput, match="is taken"):
        make(store, first.id)
    assert len(store.all()) == 1


def test_a_sandbox_is_owned_for_as_long_as_the_descriptor_is_open(store: SandboxStore) -> None:
    sandbox, owner = store.create(OPTIONS)
    assert sandbox.has_owner()
    assert sandbox.read().phase is Phase.STARTING
    os.close(owner)
    assert not sandbox.has_owner()
    assert sandbox.read().phase is Phase.DEAD


def test_ownership_passes_to_a_child_and_ends_with_its_death(store: SandboxStore) -> None:
    sandbox, owner = store.create(OPTIONS)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[owner])
    os.close(owner)
    try:
        assert sandbox.has_owner()
    finally:
        child.kill()
        child.communicate()
    sandbox.wait_for_owner()
    assert sandbox.read().phase is Phase.DEAD


def test_a_last_word_stays_when_the_owner_has_gone(store: SandboxStore) -> None:
    sandbox = make(store)
    sandbox.write(replace(sandbox.read(), phase=Phase.EXITED, exit_status=37))
    assert (sandbox.read().phase, sandbox.read().exit_status) == (Phase.EXITED, 37)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"id": 7}'])
def test_a_record_cut_short_is_an_error_that_says_what_to_do(
    store: SandboxStore, content: bytes | None
) -> None:
    sandbox = make(store)
    record = sandbox.path / "sandbox.json"
    record.unlink()
    if content is not None:
        record.write_bytes(content)
    with pytest.raises(HostError, match=f"pykata rm -f {sandbox.id}"):
        sandbox.read()
    assert store.find(sandbox.id).path == sandbox.path
    clear_away(store, sandbox)
    assert not store.run_dir.exists()


def test_the_oldest_is_listed_first(store: SandboxStore) -> None:
    made = [make(store, name) for name in ("one", "two", "three")]
    for age, sandbox in zip((2.0, 3.0, 1.0), made, strict=True):
        sandbox.write(replace(sandbox.read(), created_at=age))
    assert [sandbox.read().name for sandbox in store.all()] == ["three", "one", "two"]


def test_the_run_directory_goes_with_the_last_sandbox(store: SandboxStore) -> None:
    first, second = make(store), make(store)
    clear_away(store, first)
    assert store.run_dir.exists()
    clear_away(store, second)
    assert not store.run_dir.exists()
    assert store.all() == []
    assert make(store).path.exists()


def test_clearing_away_kills_what_is_recorded_and_is_harmless_twice(store: SandboxStore) -> None:
    sandbox = make(store)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        sandbox.write(replace(sandbox.read(), processes=(ProcessIdentity.of(child.pid),)))
        clear_away(store, sandbox)
        assert child.wait(timeout=10) == -9
    finally:
        child.communicate()
    clear_away(store, sandbox)
    assert not sandbox.path.exists()


def test_a_process_with_a_reused_pid_is_left_alone(store: SandboxStore) -> None:
    sandbox = make(store)
    mine = ProcessIdentity.of(os.getpid())
    other = replace(mine, start_ticks=mine.start_ticks - 1)
    sandbox.write(replace(sandbox.read(), monitor=other, processes=(other,)))
    clear_away(store, sandbox)
    assert mine.is_alive()
    assert not other.is_alive()


def test_a_process_that_never_was_has_no_identity() -> None:
    with pytest.raises(ProcessLookupError):
        ProcessIdentity.of(2**22 + 1)  # above the kernel's highest pid (PID_MAX_LIMIT)


def test_the_run_directory_comes_from_the_environment(directories: Path) -> None:
    assert SandboxStore().directory == directories / "run" / "sandboxes"
