"""Named volumes and the arguments that name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.container_config import Mount
from host.errors import HostError, InvalidInput
from host.volumes import VolumeArgument, VolumeStore, parse_volume, tmpfs_mount, users_of, volume_mount


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data1:/data1", VolumeArgument("data1", "/data1", False)),
        ("data1:/data1:ro", VolumeArgument("data1", "/data1", True)),
        ("/srv:/data:rw", VolumeArgument("/srv", "/data", False)),
        ("./here:/data:z,ro,rprivate", VolumeArgument("./here", "/data", True)),
        (".:/data", VolumeArgument("./", "/data", False)),
    ],
)
def test_volume_is_parsed(text: str, expected: VolumeArgument) -> None:
    assert parse_volume(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("data1", "names no source and destination"),
        (":/data", "names no source and destination"),
        ("data1:", "names no source and destination"),
        ("a:/b:ro:rw", "names no source and destination"),
        ("data1:data", "'data' is no place in a container"),
        ("data1:/", "'/' is no place in a container"),
        ("data1:/..", "is no place in a container"),
        ("data1:/data:exec", "no option 'exec'"),
        ("data1:/data:ro,rw", "both ro and rw"),
    ],
)
def test_bad_volume_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        parse_volume(text)


def test_a_source_without_a_slash_is_a_name() -> None:
    assert parse_volume("data1:/d").is_named
    assert not parse_volume("./data1:/d").is_named
    assert not parse_volume("..:/d").is_named


def test_named_volume_is_made_where_docker_makes_it(tmp_path: Path) -> None:
    mount = volume_mount(parse_volume("data1:/data1:ro"), VolumeStore(tmp_path))
    place = tmp_path / "volumes/data1/_data"
    assert mount == Mount("/data1", str(place), "bind", ("rbind", "rprivate", "ro"))
    assert place.is_dir()


def test_missing_source_path_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is nothing at"):
        volume_mount(parse_volume(f"{tmp_path}/absent:/d"), VolumeStore(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    mount = volume_mount(parse_volume("./here:/d"), VolumeStore(tmp_path))
    assert mount.source == str(tmp_path / "here")
    assert "rw" in mount.options


def test_volumes_live_until_they_are_removed(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    assert store.all() == []
    store.ensure("one")
    (store.ensure("two").path / "file").write_text("kept")
    assert (store.ensure("two").path / "file").read_text() == "kept"
    assert [volume.name for volume in store.all()] == ["one", "two"]
    assert store.get("one").created_at > 0
    store.remove("two")
    assert [volume.name for volume in store.all()] == ["one"]
    assert not (tmp_path / "volumes/two").exists()


def test_what_is_no_volume_is_not_listed(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    store.ensure("one")
    (tmp_path / "volumes/empty").mkdir()
    (tmp_path / "volumes/.hidden/_data").mkdir(parents=True)
    assert [volume.name for volume in store.all()] == ["one"]


def test_missing_volume_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no volume nothing"):
        VolumeStore(tmp_path).remove("nothing")


def test_volume_in_use_stays(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    volume = store.ensure("data1")
    users = users_of("data1", {"first": ["data1:/d"], "second": ["/data1:/d", "other:/e"]})
    assert users == ["first"]
    with pytest.raises(HostError, match="in use by first"):
        store.remove("data1", in_use_by=users)
    assert volume.path.is_dir()


@pytest.mark.parametrize("name", ["", "a", ".", "..", ".a", "-a", "a b", "a\n", "a/b", "ä" * 3, "a" * 256])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be the name of a volume"):
        VolumeStore(tmp_path).ensure(name)
    assert list(tmp_path.iterdir()) == []


def test_tmpfs_has_dockers_options_and_the_users() -> None:
    assert tmpfs_mount("/scratch:size=64m,exec") == Mount(
        "/scratch", "tmpfs", "tmpfs", ("nosuid", "nodev", "noexec", "size=64m", "exec")
    )
    assert tmpfs_mount("/scratch").options == ("nosuid", "nodev", "noexec")


@pytest.mark.parametrize("text", ["", "scratch", "/", "/.."])
def test_tmpfs_needs_a_place(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no place in a container"):
        tmpfs_mount(text)
