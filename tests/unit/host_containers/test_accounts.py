"""Docker's USER[:GROUP] against account files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.accounts import Account, find_account
from host.errors import InvalidInput

PASSWD = """\
# a comment: with colons:::::
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
half:x
web:x:33:33:www:/var/www:
1000:x:50:51:a name that looks like a number:/home/n:/bin/sh
"""
GROUP = """\
root:x:0:
adm:x:4:web,daemon
www:x:33:
disk:x:6:web
broken
"""


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Account(0, 0, (0,), "/root")),
        ("root", Account(0, 0, (0,), "/root")),
        ("0", Account(0, 0, (0,), "/root")),
        ("web", Account(33, 33, (33, 4, 6), "/var/www")),
        ("33", Account(33, 33, (33, 4, 6), "/var/www")),
        ("web:adm", Account(33, 4, (4,), "/var/www")),
        ("web:6", Account(33, 6, (6,), "/var/www")),
        ("7777", Account(7777, 0, (0,), "")),
        ("7777:8888", Account(7777, 8888, (8888,), "")),
        ("1000", Account(50, 51, (51,), "/home/n")),
        (":adm", Account(0, 4, (4,), "/root")),
    ],
)
def test_user_is_looked_up_as_docker_does(user: str, expected: Account) -> None:
    assert find_account(user, PASSWD, GROUP) == expected


def test_empty_root_filesystem_still_knows_root_by_number() -> None:
    assert find_account("", "", "") == Account(0, 0, (0,), "")


@pytest.mark.parametrize(
    ("user", "complaint"),
    [
        ("nobody", "no user 'nobody'"),
        ("root:wheel", "no group 'wheel'"),
        ("-1", "no user '-1'"),
        ("4294967295", "4294967295 is no user or group id"),
        ("0:99999999999", "99999999999 is no user or group id"),
        ("\u0663", "no user"),
    ],
)
def test_unknown_user_is_one_sentence(user: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        find_account(user, PASSWD, GROUP)


@given(st.text(), st.text(), st.text())
def test_any_account_files_give_an_account_or_a_refusal(user: str, passwd: str, group: str) -> None:
    try:
        account = find_account(user, passwd, group)
    except InvalidInput:
        return
    assert account.gid in account.additional_gids
