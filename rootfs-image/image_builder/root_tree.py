"""The guest's root filesystem, assembled from its parts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from image_builder.commands import run, run_inside
from image_builder.errors import ImageBuildError
from image_builder.recipe import Recipe
from image_builder.trim import remove, trim

SITE = "usr/lib/kata-agent"
_UNCHECKED_HASH = b"\1\0\0\0"  # the flags of a .pyc file; PEP 552
_MOUNT_POINTS = ("dev", "mnt", "proc", "run", "sys", "tmp")
_BUSYBOX_EXCEPT = frozenset({"sbin/init", "linuxrc", "init"})
# update-alternatives would have made these (iptables(8), "nft" being Debian's default).
_ALTERNATIVES = {
    f"usr/sbin/{family}{suffix}": f"{family}-nft{suffix}"
    for family in ("iptables", "ip6tables")
    for suffix in ("", "-save", "-restore")
}


def copy_tree(source: Path, target: Path) -> None:
    """Copy `source` onto `target`, links and modes as they are; existing files are replaced."""
    target.mkdir(parents=True, exist_ok=True)
    run(["cp", "-a", "--reflink=auto", f"{source}/.", str(target)])


def assemble_root(recipe: Recipe, root: Path, *, debian: Path, site: Path, modules: Path) -> None:
    """Make the root at `root` (not there yet) out of its parts.

    `debian` has the unpacked packages, `site` the agent's Python packages, `modules` one kernel
    release's modules. Raises ImageBuildError.
    """
    copy_tree(debian, root)
    _make_accounts(root)
    _make_links(root)
    if recipe.init_system == "agent":
        _link(root / "usr/sbin/init", "../bin/kata-agent")
    _link_busybox(root)
    copy_tree(site, root / SITE)
    _replace_overlays(root, recipe.overlays)
    trim(root, recipe.removals)
    _compile_python(root)
    run_inside(root, ["/sbin/ldconfig"])
    _check_compiled_parts(root)
    copy_tree(modules, root / "usr/lib/modules" / modules.name)
    _empty_mount_points(root)


def _make_accounts(root: Path) -> None:
    """What base-passwd's script does: the master copies become the files themselves."""
    masters = root / "usr/share/base-passwd"
    shutil.copyfile(masters / "passwd.master", root / "etc/passwd")
    shutil.copyfile(masters / "group.master", root / "etc/group")


def _make_links(root: Path) -> None:
    for name, target in _ALTERNATIVES.items():
        _link(root / name, target)
    _link(root / "init", "usr/sbin/init")  # where the kernel looks in an initrd
    _link(root / "var/run", "/run")
    _link(root / "var/lock", "/run/lock")
    _link(root / "var/tmp", "../tmp")
    _link(root / "etc/mtab", "../proc/self/mounts")


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.exists():
        remove(path)
    path.symlink_to(target)


def _link_busybox(root: Path) -> None:
    """Name busybox after each of its tools that no package brought."""
    for name in run_inside(root, ["/bin/busybox", "--list-full"]).split():
        place = root / name if name.startswith("usr/") else root / "usr" / name
        if name not in _BUSYBOX_EXCEPT and not place.exists() and not place.is_symlink():
            place.symlink_to("/bin/busybox")


def _replace_overlays(root: Path, overlays: Iterable[Path]) -> None:
    for overlay in overlays:
        for path in sorted(overlay.rglob("*")):
            place = root / path.relative_to(overlay)
            if path.is_dir() and not path.is_symlink():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.unlink(missing_ok=True)
                shutil.copy2(path, place, follow_symlinks=False)


def _compile_python(root: Path) -> None:
    """Compile all modules ahead, with the guest's own interpreter.

    unchecked-hash: the interpreter believes them without a look at the source, and the image's
    times do not matter (PEP 552).
    """
    run_inside(
        root,
        [
            "/usr/bin/python3",
            # -B and -f: what the compiler itself imports would be cached by the file's time, and then
            # count as compiled; an archive sets all times to zero.
            *("-I", "-B", "-m", "compileall", "-q", "-f", "-j0"),
            *("--invalidation-mode", "unchecked-hash"),
            *("/usr/lib/python3.11", f"/{SITE}"),
        ],
    )
    for path in (root / "usr/lib").rglob("*.pyc"):
        with path.open("rb") as file:
            if file.read(8)[4:] != _UNCHECKED_HASH:
                raise ImageBuildError(f"{path.relative_to(root)} is not compiled ahead")


def _check_compiled_parts(root: Path) -> None:
    """Load each compiled half in the guest's own root: a missing library would show as slowness only."""
    load = (
        f"import ctypes, sys; sys.path.append('/{SITE}');"
        "import google._upb._message, grpc._cython.cygrpc;"
        "ctypes.CDLL('libudev.so.1')"
    )
    run_inside(root, ["/usr/bin/python3", "-I", "-S", "-c", load])


def _empty_mount_points(root: Path) -> None:
    """Leave of the directories that something is mounted on nothing but themselves."""
    for name in _MOUNT_POINTS:
        place = root / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    (root / "tmp").chmod(0o1777)
