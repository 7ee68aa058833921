"""Whether the kernel of this guest can execute a container's command, asked before crun is.

crun finds out by itself that a command does not exist. Of one that exists and may not be executed it
sometimes says the same; and it does not see a file that execve(2) will refuse: it creates and starts
such a container, whose first process then exits with 1 (own measurement, crun 1.8.1). So these two are
looked at here, and a command that cannot be judged (it may lie in a mount of the container's) is left
to crun.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from agent.errors import LaunchFailed
from agent.linux.paths import fd_path, open_beneath, open_directory

# What execvp uses without PATH (confstr(3), _CS_PATH; crun's own fallback holds the same places).
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# binprm.h: BINPRM_BUF_SIZE, all that the kernel looks at to find a script's interpreter.
_HEADER_BYTES = 256
_ELF_HEADER = struct.Struct("<16sHH")  # e_ident, e_type, e_machine (elf(5)); little-endian
_ELF_HEADER_BIG = struct.Struct(">16sHH")
_BIG_ENDIAN = 2  # ELFDATA2MSB

# Machines that a kernel runs beside its own: i386 on x86_64, arm on aarch64 (elf.h).
_COMPATIBLE_MACHINES = {62: {3}, 183: {40}}

_BINFMT_MISC = "/proc/sys/fs/binfmt_misc"


def check_command(rootfs: str, process: dict[str, Any], mounts: Sequence[str]) -> None:
    """Check the command of `process` as it lies below `rootfs`, where `mounts` will cover some paths.

    Blocks on the root filesystem; no link leads out of it. Raises LaunchFailed: 126 for a file that may
    not be executed or is in a foreign format, 127 for a script whose interpreter does not exist.
    """
    denied = ""
    with open_directory(rootfs) as root:
        for path in _candidates(process):
            if _is_covered(path, mounts):
                return
            try:
                header = _executable_header(root, path)
            except PermissionError:  # execvp(3) looks on, and remembers
                denied = denied or path
                continue
            if header is not None:
                _check_header(root, path, header, mounts)
                return
    if denied:
        raise _failure(126, f"{denied}: permission denied")


def _candidates(process: dict[str, Any]) -> Iterator[str]:
    """The paths at which the command is looked for, as execvp(3) does."""
    command: str = process["args"][0]
    directory: str = process.get("cwd") or "/"
    if "/" in command:
        yield posixpath.join(directory, command)
        return
    variables = (entry.partition("=") for entry in process.get("env") or ())
    path = next((value for name, _, value in variables if name == "PATH"), _DEFAULT_PATH)
    for place in path.split(":"):
        yield posixpath.join(directory, place, command)


def _is_covered(path: str, mounts: Sequence[str]) -> bool:
    """Whether `path`, as text, lies in one of the container's own mounts."""
    path = posixpath.normpath(path)
    return any(path == mount or path.startswith(mount.rstrip("/") + "/") for mount in mounts)


def _executable_header(root: int, path: str) -> bytes | None:
    """The beginning of the file; None if there is nothing here, or nothing that can be read.

    Raises PermissionError for what execve(2) refuses with EACCES.
    """
    try:
        found = open_beneath(root, path, os.O_PATH, in_root=True)
    except OSError:
        return None
    try:
        mode = os.fstat(found).st_mode
        if not stat.S_ISREG(mode) or not mode & 0o111:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        reading = os.open(fd_path(found), os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)
    try:
        return os.read(reading, _HEADER_BYTES)
    finally:
        os.close(reading)


def _check_header(root: int, path: str, header: bytes, mounts: Sequence[str]) -> None:
    if header.startswith(b"#!"):
        words = header[2:].split(b"\n")[0].split()
        interpreter = os.fsdecode(words[0]) if words else ""
        if not interpreter.startswith("/") or _is_covered(interpreter, mounts):
            return
        try:
            if _executable_header(root, interpreter) is None:
                raise _failure(127, f"{path}: its interpreter {interpreter} does not exist in the container")
        except PermissionError:
            raise _failure(126, f"{path}: its interpreter {interpreter} cannot be executed") from None
        return
    machine = _elf_machine(header)
    own = _elf_machine(_own_header())
    if machine is not None and (machine == own or machine in _COMPATIBLE_MACHINES.get(own or 0, ())):
        return
    if not _foreign_formats_are_registered():
        raise _failure(126, f"{path}: exec format error")


def _elf_machine(header: bytes) -> int | None:
    """The `e_machine` of an ELF file's header; None for anything else."""
    if len(header) < _ELF_HEADER.size or not header.startswith(b"\x7fELF"):
        return None
    layout = _ELF_HEADER_BIG if header[5] == _BIG_ENDIAN else _ELF_HEADER
    machine: int = layout.unpack_from(header)[2]
    return machine


def _own_header() -> bytes:
    with open("/proc/self/exe", "rb") as program:
        return program.read(_HEADER_BYTES)


def _foreign_formats_are_registered() -> bool:
    """Whether somebody has taught the kernel further formats (kernel: admin-guide/binfmt-misc.rst)."""
    try:
        return not set(os.listdir(_BINFMT_MISC)) <= {"register", "status"}
    except OSError:
        return False


def _failure(exit_code: int, sentence: str) -> LaunchFailed:
    return LaunchFailed(f"exit status {exit_code}: {sentence}", exit_code=exit_code)
