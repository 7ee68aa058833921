"""image_builder: what an image is made of, and when it is made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_builder.apt_sources import debian_sources, parse_deb822, parse_one_line
from image_builder.debian import parse_package_files
from image_builder.errors import ImageBuildError
from image_builder.recipe import (
    Recipe,
    Removal,
    fingerprint,
    load_recipe,
    parse_list,
    parse_removals,
    parse_sections,
)
from image_builder.trim import trim

_PROJECT = Path(__file__).resolve().parents[3]


def _project(root: Path) -> Path:
    image = root / "rootfs-image"
    (image / "overlay/etc").mkdir(parents=True)
    (image / "overlay/etc/hosts").write_text("127.0.0.1 localhost\n")
    (image / "packages.txt").write_text("crun # runtime\n")
    (image / "kernel-packages.txt").write_text("linux-image-amd64\n")
    (image / "modules.txt").write_text("[initramfs]\next4\n[root]\n9p\n")
    (image / "trim.toml").write_text('[[remove]]\nwhy = "x"\npaths = ["usr/share/doc"]\n')
    (root / "agent").mkdir()
    (root / "agent/config.py").write_text("x = 1\n")
    (root / "pyproject.toml").write_text('[project]\ndependencies = ["psutil>=5"]\n')
    return root


def _fingerprint(project: Path) -> str:
    return fingerprint(load_recipe(project))


def test_a_list_has_comments_and_blank_lines() -> None:
    assert parse_list("# all\n\na  # why\n b\n#c\n") == ("a", "b")


def test_sections() -> None:
    assert parse_sections("[one]\na\n[two]\n") == {"one": ("a",), "two": ()}
    with pytest.raises(ImageBuildError, match="before the first"):
        parse_sections("a\n[one]\n")


def test_the_projects_own_recipe_is_complete() -> None:
    recipe = load_recipe(_PROJECT)
    assert {"crun", "python3-minimal", "kmod"} <= set(recipe.packages)
    assert {"virtio_blk", "ext4"} <= set(recipe.initramfs_modules)
    assert {"9p", "virtiofs", "overlay", "xfs", "vmw_vsock_virtio_transport"} <= set(recipe.root_modules)
    assert any(requirement.startswith("protobuf") for requirement in recipe.dependencies)
    assert all(overlay.is_dir() for overlay in recipe.overlays)


def test_systemd_brings_its_overlay_and_packages() -> None:
    recipe = load_recipe(_PROJECT, init_system="systemd")
    assert "systemd" in recipe.packages
    assert all(overlay.is_dir() for overlay in recipe.overlays)
    assert len(recipe.overlays) == 2
    assert fingerprint(recipe) != fingerprint(load_recipe(_PROJECT))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageBuildError, match=r"packages\.txt"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '[[remove]]\npaths = ["a"]\n',
        '[[remove]]\nwhy = "x"\n',
        '[[remove]]\nwhy = "x"\npaths = ["/etc"]\n',
        '[[remove]]\nwhy = "x"\npaths = ["a/../../etc"]\n',
    ],
)
def test_a_removal_needs_a_reason_and_stays_in_the_root(text: str) -> None:
    with pytest.raises(ImageBuildError):
        parse_removals(text)


def test_the_same_inputs_have_the_same_hash(tmp_path: Path) -> None:
    assert _fingerprint(_project(tmp_path / "a")) == _fingerprint(_project(tmp_path / "b"))


@pytest.mark.parametrize(
    "path",
    [
        "rootfs-image/packages.txt",
        "rootfs-image/overlay/etc/hosts",
        "rootfs-image/trim.toml",
        "agent/config.py",
    ],
)
def test_every_input_counts(tmp_path: Path, path: str) -> None:
    project = _project(tmp_path)
    before = _fingerprint(project)
    file = project / path
    file.write_text(file.read_text() + "\n# more\n")
    assert _fingerprint(project) != before


def test_names_and_modes_count(tmp_path: Path) -> None:
    project = _project(tmp_path)
    seen = {_fingerprint(project)}
    (project / "rootfs-image/overlay/etc/hosts").chmod(0o755)
    seen.add(_fingerprint(project))
    (project / "rootfs-image/overlay/etc/hosts").rename(project / "rootfs-image/overlay/etc/host")
    seen.add(_fingerprint(project))
    (project / "agent/link").symlink_to("config.py")
    seen.add(_fingerprint(project))
    assert len(seen) == 4


def test_what_does_not_reach_the_image_does_not_count(tmp_path: Path) -> None:
    project = _project(tmp_path)
    before = _fingerprint(project)
    (project / "agent/__pycache__").mkdir()
    (project / "agent/__pycache__/config.cpython-311.pyc").write_bytes(b"x")
    (project / "rootfs-image/README.md").write_text("about\n")
    (project / "tests").mkdir()
    (project / "tests/test_x.py").write_text("")
    assert _fingerprint(project) == before


def test_trimming_removes_files_links_and_trees(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    root = tmp_path / "root"
    (root / "doc/deep").mkdir(parents=True)
    (root / "doc/deep/file").write_text("")
    (root / "link").symlink_to(outside)
    (root / "tool-a").write_text("")
    (root / "tool-b").write_text("")
    (root / "kept").write_text("")
    assert trim(root, [Removal("x", ("doc", "link", "tool-*"))]) == 4
    assert sorted(path.name for path in root.iterdir()) == ["kept"]
    assert (outside / "kept").exists()


def test_an_entry_that_matches_nothing_fails_the_build(tmp_path: Path) -> None:
    with pytest.raises(ImageBuildError, match=r"gone.*matches nothing"):
        trim(tmp_path, [Removal("x", ("gone",))])


def test_package_files() -> None:
    names = ["libc6_2.36-9+deb12u14_amd64.deb", "crun_1%3a1.8.1-1_amd64.deb", "a_1_all.deb"]
    assert parse_package_files(names) == {"a": "1", "crun": "1:1.8.1-1", "libc6": "2.36-9+deb12u14"}


class TestAptSources:
    """Only what is Debian's, of one release, whatever mirror it comes from."""

    def test_one_line_style(self) -> None:
        text = (
            "# deb http://mirror.example/debian bookworm main\n"
            "deb http://mirror.example/debian bookworm main contrib non-free-firmware # x\n"
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm-updates main\n"
            "deb-src http://mirror.example/debian bookworm main\n"
            "deb http://mirror.example/debian trixie main\n"
            "deb https://vendor.example/apt bookworm stable\n"
            "deb https://vendor.example/apt bookworm main vendor\n"
            "deb broken\n"
        )
        assert parse_one_line(text) == [
            "deb http://mirror.example/debian bookworm main",
            "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm-updates main",
        ]

    def test_deb822_style(self) -> None:
        text = (
            "# a comment\nTypes: deb deb-src\nURIs: http://mirror.example/debian\n"
            "Suites: bookworm\n bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n"
            "\n"
            "Types: deb\nEnabled: no\nURIs: http://b.example\nSuites: bookworm\nComponents: main\n"
            "\n"
            "Types: deb\nURIs: http://vendor.example\nSuites: nodistro\nComponents: main\n"
        )
        assert parse_deb822(text) == [
            "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm main",
            "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm-updates main",
        ]

    def test_all_files_of_the_machine_are_read(self, tmp_path: Path) -> None:
        (tmp_path / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
        parts = tmp_path / "sources.list.d"
        parts.mkdir()
        (parts / "b.sources").write_text(
            "Types: deb\nURIs: http://b.example/s\nSuites: bookworm-security\nComponents: main\n"
        )
        (parts / "c.list.disabled").write_text("deb http://c.example/debian bookworm main\n")
        assert debian_sources(tmp_path) == (
            "deb http://a.example/debian bookworm main\ndeb http://b.example/s bookworm-security main\n"
        )

    def test_a_machine_without_the_release_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "sources.list").write_text("deb http://a.example/debian bookworm-security main\n")
        with pytest.raises(ImageBuildError, match="no source for Debian bookworm"):
            debian_sources(tmp_path)


def test_a_recipe_is_a_value() -> None:
    first = load_recipe(_PROJECT)
    assert first == load_recipe(_PROJECT)
    assert isinstance(first, Recipe)
