"""The guest's mount table, as far as storages may change it: each change with its undo."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence

from agent.errors import InvalidRequest, KernelRefused, Unsupported
from agent.linux.blocking import run_blocking
from agent.linux.mount import (
    PER_MOUNT_FLAGS,
    MountFlag,
    mount,
    remount,
    remount_bind,
    set_propagation,
    umount,
)
from agent.linux.mountinfo import MountEntry, mount_of, mounts_below, read_mountinfo
from agent.linux.paths import fd_path, remove_tree_at
from agent.storage.handler import AttachedStorage, FsGroup
from agent.storage.mount_options import MountOptions
from agent.storage.mount_points import Kind, MountPoints, Place
from agent.storage.ownership import give_to_group

# Filesystems whose source is a tag that the host chose, whatever it looks like.
_TAGGED = ("9p", "virtiofs")

_PER_MOUNT = MountFlag.STRICTATIME
for _flag in PER_MOUNT_FLAGS.values():
    _PER_MOUNT |= _flag


class Mounts:
    """The guest's mounts (agent.storage.handler.GuestMounts)."""

    def __init__(self, points: MountPoints | None = None) -> None:
        self._points = points or MountPoints()

    async def mount(
        self, source: str, mount_point: str, fstype: str, options: MountOptions
    ) -> AttachedStorage:
        """Make the mount point and mount `source` on it; see GuestMounts.mount."""
        return await run_blocking(self._mount, source, mount_point, fstype, options, undo=_Attachment.undo)

    async def adopt(self, mount_point: str) -> AttachedStorage | None:
        """The mount that stands at `mount_point` already, if any; see GuestMounts.adopt."""
        place = self._points.locate(mount_point)
        if any(entry.mount_point == place.path for entry in await run_blocking(read_mountinfo)):
            return _Attachment(place.path, [])
        return None

    async def make_directory(
        self, path: str, *, mode: int | None = None, gid: int | None = None
    ) -> AttachedStorage:
        """Make a plain directory; see GuestMounts.make_directory."""
        return await run_blocking(self._make_directory, path, mode, gid, undo=_Attachment.undo)

    async def give_to_group(self, mount_point: str, group: FsGroup, *, read_only: bool) -> None:
        """Give a mounted storage's files to a group; see GuestMounts.give_to_group."""
        await run_blocking(self._give_to_group, mount_point, group, read_only)

    async def remount_tmpfs(self, changes: Sequence[tuple[str, MountOptions]]) -> None:
        """Give each tmpfs that is mounted at a mount point new options, such as `size=`.

        Nothing is changed unless all of them are there; after a failure they have their old sizes.
        Raises InvalidRequest, Unsupported (a filesystem of another kind), KernelRefused.
        """
        await run_blocking(self._remount_tmpfs, changes)

    def _remount_tmpfs(self, changes: Sequence[tuple[str, MountOptions]]) -> None:
        places = [self._tmpfs_at(mount_point) for mount_point, _ in changes]
        with contextlib.ExitStack() as undo:
            for place, (mount_point, options) in zip(places, changes, strict=True):
                with place.open() as root, _refusals("remount", None, mount_point):
                    before = os.statvfs(fd_path(root))
                    remount(fd_path(root), options.flags & _PER_MOUNT, options.clear, options.data)
                undo.callback(_restore_size, place, before.f_blocks * before.f_frsize)
            undo.pop_all()

    def _tmpfs_at(self, mount_point: str) -> Place:
        place = self._points.locate(mount_point)
        with _refusals("looking at", None, mount_point):
            try:
                entry = _topmost_mount(place)
            except FileNotFoundError:
                entry = None
        if entry is None or entry.mount_point != place.path:
            raise InvalidRequest(f"no storage is mounted at {mount_point}")
        if entry.fstype != "tmpfs":
            raise Unsupported(f"{mount_point}: a {entry.fstype} cannot be given another size")
        return place

    def _give_to_group(self, mount_point: str, group: FsGroup, read_only: bool) -> None:
        place = self._points.locate(mount_point)
        with _refusals("chown and chmod below", None, mount_point), place.open() as top:
            give_to_group(top, group, read_only=read_only)

    def _mount(self, source: str, mount_point: str, fstype: str, options: MountOptions) -> _Attachment:
        if not source:
            raise InvalidRequest("need mount source")
        if not mount_point:
            raise InvalidRequest("need mount destination")
        if not fstype and MountFlag.BIND not in options.flags:
            raise InvalidRequest("need mount FS type")
        if MountFlag.REMOUNT in options.flags:
            raise InvalidRequest(f"option 'remount' for {mount_point}: a storage is mounted only once")
        if fstype == "bind" or MountFlag.BIND in options.flags:
            return self._bind(source, mount_point, options)
        if source.startswith("/") and fstype not in _TAGGED:
            source = _real_source(source)
            if not stat.S_ISBLK(os.stat(source).st_mode):
                raise InvalidRequest(f"mount source {source} is no block device")
        with self._new_place(mount_point, "directory") as attachment:
            with attachment.place.open() as target, _refusals(f"mount -t {fstype}", source, mount_point):
                try:
                    mount(source, fd_path(target), fstype, options.flags, options.data)
                except OSError as error:
                    if error.errno == errno.ENODEV:  # whose own text would send the reader to the disk
                        error.strerror = f"this kernel has no filesystem {fstype!r}"
                    raise
            attachment.guard_mount()
            with attachment.place.open() as root, _refusals("set propagation", None, mount_point):
                for propagation in options.propagation:
                    set_propagation(fd_path(root), propagation)
            return attachment

    def _bind(self, source: str, mount_point: str, options: MountOptions) -> _Attachment:
        """A bind mount takes three kinds of calls: bind, propagation, flags (mount(2))."""
        source = _real_source(source)
        kind: Kind = "directory" if os.path.isdir(source) else "file"
        recursive = options.flags & MountFlag.REC
        own = options.flags & _PER_MOUNT
        with self._new_place(mount_point, kind) as attachment:
            with attachment.place.open() as target, _refusals("bind mount", source, mount_point):
                mount(source, fd_path(target), "", MountFlag.BIND | recursive)
            attachment.guard_mount()
            with attachment.place.open() as root, _refusals("bind mount options", source, mount_point):
                for propagation in options.propagation:
                    set_propagation(fd_path(root), propagation)
                if own or options.clear:
                    remount_bind(fd_path(root), own, options.clear)
            return attachment

    def _make_directory(self, path: str, mode: int | None, gid: int | None) -> _Attachment:
        with self._new_place(path, "directory") as attachment:
            place = attachment.place
            with place.open() as directory, _refusals("making directory", None, path):
                target = fd_path(directory)
                before = os.stat(target)
                if place.made:
                    attachment.guard(lambda: _remove_contents(place))
                elif (mode, gid) != (None, None):
                    attachment.guard(lambda: _restore_owner(place, before))
                if gid is not None:
                    os.chown(target, -1, gid)
                if mode is not None:
                    os.chmod(target, mode)  # after chown, which clears setgid; and free of the umask
            return attachment

    @contextlib.contextmanager
    def _new_place(self, mount_point: str, kind: Kind) -> Iterator[_Attachment]:
        """A fresh attachment at `mount_point`, undone if the `with` block fails."""
        place = self._points.claim(mount_point, kind)
        attachment = _Attachment(place.path, [lambda: self._points.give_back(place)], place)
        try:
            yield attachment
        except BaseException:
            attachment.undo()
            raise


class _Attachment:
    """What was done at one mount point, as a list of undo steps, the newest last."""

    def __init__(self, mount_point: str, steps: list[Callable[[], None]], place: Place | None = None) -> None:
        self.mount_point = mount_point
        self._place = place
        self._steps = steps
        self._lock = threading.Lock()  # two releases at once: the second waits, and finds nothing to do

    @property
    def place(self) -> Place:
        assert self._place is not None  # only an adopted mount has none, and nobody asks it
        return self._place

    def guard(self, step: Callable[[], None]) -> None:
        """Have `step` done before all steps so far."""
        self._steps.append(step)

    def guard_mount(self) -> None:
        """Have the mount that now stands at the place unmounted."""
        place, made = self.place, _topmost_mount(self.place)
        self.guard(lambda: _unmount(place, made))

    async def release(self) -> None:
        """Undo all; a step that fails stays, with those below it, for the next call."""
        await run_blocking(self.undo)

    def undo(self) -> None:
        """`release`, blocking. Raises KernelRefused."""
        with self._lock:
            while self._steps:
                self._steps[-1]()
                self._steps.pop()


def _unmount(place: Place, made: MountEntry) -> None:
    """Unmount `made`, which stands at `place`, with all that has been mounted on it since.

    A mount that is gone already is no error. A busy one is: a disk that is still written to must
    not be reported as free. Raises KernelRefused.
    """
    table = read_mountinfo()
    # The kernel gives the id of a mount that is gone to a new one (tried), so an id is not enough.
    if not any(_is_same_mount(entry, made) for entry in table):
        return
    for entry in mounts_below(place.path, table):
        if _stands_on(entry, made.mount_id, table):
            spot = place.at(entry.mount_point)
            with _refusals("umount", None, entry.mount_point), spot.open_parent() as parent:
                umount(f"{fd_path(parent)}/{spot.names[-1]}")


def _is_same_mount(entry: MountEntry, made: MountEntry) -> bool:
    return (entry.mount_id, entry.device, entry.root, entry.fstype, entry.source) == (
        made.mount_id,
        made.device,
        made.root,
        made.fstype,
        made.source,
    )


def _stands_on(entry: MountEntry, mount_id: int, table: list[MountEntry]) -> bool:
    """Whether `entry` is the mount `mount_id` or was mounted somewhere on it."""
    parents = {known.mount_id: known.parent_id for known in table}
    current: int | None = entry.mount_id
    for _ in table:  # a chain is no longer than the table, whatever it says
        if current is None or current == mount_id:
            break
        current = parents.get(current)
    return current == mount_id


def _topmost_mount(place: Place) -> MountEntry:
    """The mount whose root one sees at `place`. Raises OSError."""
    with place.open() as descriptor:
        return mount_of(descriptor)


def _real_source(source: str) -> str:
    """`source` with its links resolved. Raises InvalidRequest if it does not exist."""
    if not source.startswith("/"):
        raise InvalidRequest(f"mount source {source!r} is no absolute path")
    try:
        return os.path.realpath(source, strict=True)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"Could not resolve symlink for source {source}: {error}") from error


# A directory that is gone needs no undo: its container's bundle goes first, with all that lies in it.
_gone_is_done = contextlib.suppress(FileNotFoundError)


def _remove_contents(place: Place) -> None:
    with _refusals("removing", None, place.path), _gone_is_done, place.open_parent() as parent:
        remove_tree_at(parent, place.names[-1])


def _restore_size(place: Place, size_bytes: int) -> None:
    # The failure that led here is what the host is told.
    with contextlib.suppress(OSError), place.open() as root:
        remount(fd_path(root), data=f"size={size_bytes}")


def _restore_owner(place: Place, before: os.stat_result) -> None:
    with _refusals("restoring", None, place.path), _gone_is_done, place.open() as directory:
        os.chown(fd_path(directory), before.st_uid, before.st_gid)
        os.chmod(fd_path(directory), stat.S_IMODE(before.st_mode))


@contextlib.contextmanager
def _refusals(call: str, source: str | None, target: str) -> Iterator[None]:
    """Turn OSError into KernelRefused that names the paths of the request, not descriptors."""
    try:
        yield
    except OSError as error:
        first, second = (source, target) if source is not None else (target, None)
        named = OSError(error.errno, error.strerror, first, None, second)
        raise KernelRefused.from_oserror(call, named) from error
