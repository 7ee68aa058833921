"""The names that hosts choose: they end up in paths, cgroups and log lines, so they are checked."""

from __future__ import annotations

import re

from agent.containers.oci_spec import is_valid_id
from agent.errors import InvalidRequest

# As container ids, but one character is enough: the hosts' own tools name execs "1", "t".
_EXEC_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII)


def check_container_id(text: str) -> None:
    """Raises InvalidRequest for an id that is no name: relative paths, separators, one character."""
    if not is_valid_id(text):
        raise InvalidRequest(
            f'container id "{text}" is invalid',
            hint="it takes two or more ASCII letters, digits, '.', '_' or '-', the first a letter or digit",
        )


def check_exec_id(text: str) -> None:
    """Raises InvalidRequest for an exec id that is no name."""
    if not _EXEC_ID.fullmatch(text):
        raise InvalidRequest(
            f'exec id "{text}" is invalid',
            hint="it takes ASCII letters, digits, '.', '_' or '-', the first a letter or digit",
        )
