"""Requests in words for the log: long values cut short, secrets left out.

A request may hold what a user types or a password in an environment variable; the log goes to the
host's disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

_LONGEST_TEXT = 128
_MOST_ITEMS = 16
_SECRET_LISTS = frozenset({"env"})  # of OCI processes and hooks: only the names are told


def describe(value: object, *, name: str = "") -> object:
    """`value` as plain objects fit for a log record."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, str):
        return (
            value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}... ({len(value)} characters)"
        )
    if name in _SECRET_LISTS and isinstance(value, list):
        return [str(item).partition("=")[0] for item in value[:_MOST_ITEMS]]
    if isinstance(value, Mapping):
        return {key: describe(item, name=str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        told = [describe(item) for item in value[:_MOST_ITEMS]]
        return told if len(value) <= _MOST_ITEMS else [*told, f"... ({len(value)} items)"]
    if is_dataclass(value):
        return {field.name: describe(getattr(value, field.name), name=field.name) for field in fields(value)}
    return value
