"""Who a container's process is: docker's `USER[:GROUP]`, looked up in the root filesystem's own files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from host.errors import InvalidInput

_ID_MAX = 2**32 - 2  # -1 means "no change" to the kernel (setresuid(2))


@dataclass(frozen=True, slots=True)
class Account:
    """What a process runs as; `home` is empty if the user has no entry."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...]
    home: str


@dataclass(frozen=True, slots=True)
class _Passwd:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def find_account(user: str, passwd: str, group: str) -> Account:
    """The account `user` means, by the texts of /etc/passwd and /etc/group (passwd(5), group(5)).

    As in docker: a name must have an entry, a number need not; a number without an entry gets group
    0; a group that is given replaces the user's own, with the further groups. Empty means root.
    Raises InvalidInput.
    """
    user_part, _, group_part = user.partition(":")
    entry = _find_user(user_part or "0", passwd)
    groups = list(_groups(group))
    if group_part:
        gid = _find_group(group_part, groups)
        further: tuple[int, ...] = ()
    else:
        gid = entry.gid
        further = tuple(one.gid for one in groups if entry.name and entry.name in one.members)
    # The own group is among the further ones: else a process could drop it, and with it a denial that
    # a file makes to that group (CVE-2022-36109).
    return Account(entry.uid, gid, tuple(dict.fromkeys((gid, *further))), entry.home)


def _find_user(text: str, passwd: str) -> _Passwd:
    number = _number(text)
    for entry in _users(passwd):
        if entry.name == text or entry.uid == number:
            return entry
    if number is None:
        raise InvalidInput(
            f"the root filesystem has no user {text!r}", "name one of its /etc/passwd, or give a number"
        )
    return _Passwd("", number, 0, "")


def _find_group(text: str, groups: list[_Group]) -> int:
    number = _number(text)
    for entry in groups:
        if entry.name == text or entry.gid == number:
            return entry.gid
    if number is None:
        raise InvalidInput(
            f"the root filesystem has no group {text!r}", "name one of its /etc/group, or give a number"
        )
    return number


def _number(text: str) -> int | None:
    """The id that `text` is, if it is one. Raises InvalidInput if no process can have it."""
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    if number > _ID_MAX:
        raise InvalidInput(f"{text} is no user or group id", f"the largest one is {_ID_MAX}")
    return number


def _users(passwd: str) -> Iterator[_Passwd]:
    for fields in _lines(passwd, 6):
        if fields[2].isdigit() and fields[3].isdigit():
            yield _Passwd(fields[0], int(fields[2]), int(fields[3]), fields[5])


def _groups(group: str) -> Iterator[_Group]:
    for fields in _lines(group, 4):
        if fields[2].isdigit():
            yield _Group(fields[0], int(fields[2]), tuple(name for name in fields[3].split(",") if name))


def _lines(text: str, fields: int) -> Iterator[list[str]]:
    """The lines of an account file that have so many fields; others mean nothing, to libc either."""
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= fields and not line.startswith("#"):
            yield parts
