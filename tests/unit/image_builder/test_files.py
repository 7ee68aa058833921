"""image_builder: kernel modules, cpio archives, the kernel's wrapper, and the build's own skip."""

from __future__ import annotations

import io
import json
import lzma
import struct
import subprocess
import zlib
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_builder.builder import Manifest, build_guest, read_manifest
from image_builder.commands import program, run
from image_builder.cpio import CONSOLE, write_archive, write_compressed
from image_builder.disk_image import fletcher64, pfn_header, write_disk_image
from image_builder.errors import ImageBuildError
from image_builder.kernel_image import extract_kernel
from image_builder.kernel_modules import module_name, parse_dependencies, select_modules
from image_builder.recipe import fingerprint, load_recipe

_PROJECT = Path(__file__).resolve().parents[3]
_DEPENDENCIES = parse_dependencies(
    "kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/fscache/fscache.ko\n"
    "kernel/net/9p/9pnet.ko:\n"
    "kernel/fs/fscache/fscache.ko:\n"
    "kernel/drivers/vfio/pci/vfio-pci.ko: kernel/drivers/vfio/vfio.ko\n"
    "kernel/drivers/vfio/vfio.ko:\n"
)


class TestModules:
    def test_a_module_brings_what_it_needs(self) -> None:
        assert select_modules(["9p"], _DEPENDENCIES, []) == [
            "kernel/fs/9p/9p.ko",
            "kernel/fs/fscache/fscache.ko",
            "kernel/net/9p/9pnet.ko",
        ]

    def test_both_spellings_of_a_name(self) -> None:
        assert select_modules(["vfio_pci"], _DEPENDENCIES, []) == select_modules(
            ["vfio-pci"], _DEPENDENCIES, []
        )
        assert module_name("kernel/a/b-c.ko.xz") == "b_c"

    def test_what_is_built_in_needs_no_file(self) -> None:
        assert select_modules(["dax"], _DEPENDENCIES, ["kernel/drivers/dax/dax.ko"]) == []

    def test_an_unknown_module_is_named(self) -> None:
        with pytest.raises(ImageBuildError, match="'xfs'"):
            select_modules(["xfs"], _DEPENDENCIES, [])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "dev").mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin/tool").write_bytes(b"#!/bin/sh\n" + b"x" * 5000)
    (root / "bin/tool").chmod(0o755)
    (root / "bin/empty").write_bytes(b"")
    (root / "sbin").symlink_to("bin")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "naïve").write_text("n")
    return root


class TestCpio:
    def test_another_program_reads_it(self, tree: Path, tmp_path: Path) -> None:
        archive = io.BytesIO()
        assert write_archive(tree, archive, nodes=()) == len(archive.getvalue())
        unpacked = tmp_path / "unpacked"
        unpacked.mkdir()
        subprocess.run(
            [program("cpio"), "-id", "--quiet"], input=archive.getvalue(), cwd=unpacked, check=True
        )
        assert (unpacked / "bin/tool").read_bytes() == (tree / "bin/tool").read_bytes()
        assert (unpacked / "bin/tool").stat().st_mode & 0o7777 == 0o755
        assert (unpacked / "tmp").stat().st_mode & 0o7777 == 0o1777
        assert (unpacked / "sbin").readlink() == Path("bin")
        assert (unpacked / "naïve").read_text() == "n"

    def test_same_tree_same_bytes(self, tree: Path, tmp_path: Path) -> None:
        first, second = io.BytesIO(), io.BytesIO()
        write_archive(tree, first)
        (tree / "bin/tool").touch()
        write_archive(tree, second)
        assert first.getvalue() == second.getvalue()

    def test_the_console_is_in_it_once(self, tree: Path) -> None:
        (tree / "dev/console").write_text("in the way")
        archive = io.BytesIO()
        write_archive(tree, archive)
        header = archive.getvalue()
        assert header.count(CONSOLE.name.encode()) == 1
        at = header.index(CONSOLE.name.encode()) - 110
        fields = [int(header[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        assert (fields[1], fields[9], fields[10]) == (CONSOLE.mode, 5, 1)
        assert len(header) % 4 == 0

    def test_compressed_it_is_the_same(self, tree: Path, tmp_path: Path) -> None:
        plain = io.BytesIO()
        write_archive(tree, plain)
        target = tmp_path / "a.cpio.zst"
        write_compressed(tree, target, level=1)
        unpacked = subprocess.run([program("zstd"), "-dc", str(target)], capture_output=True, check=True)
        assert unpacked.stdout == plain.getvalue()

    def test_a_socket_has_no_place_in_an_image(self, tree: Path) -> None:
        subprocess.run([program("mkfifo"), str(tree / "pipe")], check=True)
        with pytest.raises(ImageBuildError, match="pipe"):
            write_archive(tree, io.BytesIO())


def _wrapped(payload: bytes) -> bytes:
    """A bzImage of the least kind: two setup sectors, and the payload 64 bytes behind them."""
    image = bytearray(3 * 512 + 64)
    image[0x1F1] = 2
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 64, len(payload))
    return bytes(image) + payload + b"rest"


class TestKernelImage:
    @given(st.binary(max_size=2000))
    def test_what_was_packed_comes_out(self, body: bytes) -> None:
        kernel = b"\x7fELF" + body
        size = struct.pack("<I", len(kernel))
        gzip = zlib.compressobj(wbits=31)
        for packed in (lzma.compress(kernel), gzip.compress(kernel) + gzip.flush()):
            assert extract_kernel(_wrapped(packed + size)) == kernel

    @pytest.mark.parametrize(
        "image", [b"\0" * 4096, _wrapped(b"unknown"), _wrapped(lzma.compress(b"no elf"))]
    )
    def test_what_is_no_kernel_is_refused(self, image: bytes) -> None:
        with pytest.raises(ImageBuildError):
            extract_kernel(image)


class TestDiskImage:
    def test_the_header_has_the_original_tools_checksum(self) -> None:
        header = pfn_header()
        assert len(header) == 4096
        assert header[-8:] == bytes.fromhex("303894e32b035b68")
        assert header.startswith(b"NVDIMM_PFN_INFO\0")
        assert struct.unpack_from("<QQI", header, 0x38) == (2 << 20, 0, 1)

    @given(st.binary(max_size=64).map(lambda data: data[: len(data) // 4 * 4]))
    def test_the_checksum_is_the_kernels(self, data: bytes) -> None:
        low = high = 0
        for (word,) in struct.iter_unpack("<I", data):
            low = (low + word) & 0xFFFFFFFF
            high = (high + low) & 0xFFFFFFFFFFFFFFFF
        assert fletcher64(data) == (high << 32 | low) & 0xFFFFFFFFFFFFFFFF

    def test_both_tables_lead_to_the_file_system(self, tmp_path: Path) -> None:
        body = b"first" + bytes(9 << 20) + b"last"
        filesystem = tmp_path / "fs"
        filesystem.write_bytes(body.ljust(10 << 20, b"\0"))
        disk = tmp_path / "disk"
        write_disk_image(filesystem, disk)
        content = disk.read_bytes()
        assert len(content) == 128 << 20
        for base in (0, 2 << 20):
            first, sectors = struct.unpack_from("<II", content, base + 454)
            assert content[base + 450] == 0x83
            assert content[base + 510 : base + 512] == b"\x55\xaa"
            assert sectors == (10 << 20) // 512
            begin = base + first * 512
            assert content[begin : begin + len(body)] == body
        assert content[4096:8192] == pfn_header()
        assert disk.stat().st_blocks * 512 < 4 << 20


class TestBuild:
    def _manifest(self, input_hash: str, sizes: dict[str, int]) -> Manifest:
        return Manifest(input_hash, "agent", "6.1", "pykata.whl", {"crun": "1"}, sizes)

    def _write(self, output: Path, manifest: Manifest) -> None:
        output.mkdir()
        for name in manifest.sizes:
            (output / name).write_bytes(b"x")
        (output / "manifest.json").write_text(json.dumps(asdict(manifest)))

    def test_an_unchanged_guest_is_not_built_again(self, tmp_path: Path) -> None:
        recipe = load_recipe(_PROJECT)
        manifest = self._manifest(fingerprint(recipe), {"vmlinuz": 1})
        self._write(tmp_path / "guest", manifest)
        steps: list[str] = []
        built = build_guest(recipe, tmp_path / "guest", cache=tmp_path / "cache", progress=steps.append)
        assert built == manifest
        assert steps == ["unchanged"]
        assert not (tmp_path / "cache").exists()

    def test_a_manifest_does_not_outlive_its_files(self, tmp_path: Path) -> None:
        self._write(tmp_path / "guest", self._manifest("h", {"vmlinuz": 1, "rootfs.ext4": 1}))
        assert read_manifest(tmp_path / "guest") is not None
        (tmp_path / "guest/rootfs.ext4").unlink()
        assert read_manifest(tmp_path / "guest") is None

    @pytest.mark.parametrize("text", ["", "{}", '{"input_hash": "x"}', "[1]"])
    def test_a_broken_manifest_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "manifest.json").write_text(text)
        assert read_manifest(tmp_path) is None

    def test_a_missing_program_is_named_with_its_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda *_, **__: None)
        with pytest.raises(ImageBuildError, match="apt-get install e2fsprogs"):
            program("mke2fs")

    def test_a_failing_program_is_quoted(self) -> None:
        with pytest.raises(ImageBuildError, match=r"(?s)status 3.*sad story"):
            run(["sh", "-c", "echo sad story >&2; exit 3"])
