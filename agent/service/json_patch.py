"""Changes to a JSON document, as RFC 6902 writes them down. Pure: the document given is never changed."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

Json: TypeAlias = Any

_INDEX = re.compile(r"0|[1-9][0-9]*", re.ASCII)


class PatchError(ValueError):
    """A change that cannot be made; nothing has been changed."""


def patched(document: Json, operations: Sequence[Json]) -> Json:
    """A copy of `document` with all `operations` carried out, in order. Raises PatchError."""
    result = copy.deepcopy(document)
    for operation in operations:
        result = _apply(result, operation)
    return result


def _apply(document: Json, operation: Json) -> Json:
    if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
        raise PatchError(f"{operation!r} is no operation of a JSON patch")
    kind, path = operation.get("op"), _tokens(operation["path"])
    if kind in ("add", "replace", "test") and "value" not in operation:
        raise PatchError(f'the operation "{kind}" has no value')
    match kind:
        case "add":
            return _add(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            return _remove(document, path)
        case "replace":
            _get(document, path)
            return _add(_remove(document, path), path, copy.deepcopy(operation["value"]))
        case "copy":
            return _add(document, path, copy.deepcopy(_get(document, _source(operation))))
        case "move":
            source = _source(operation)
            if path[: len(source)] == source and path != source:
                raise PatchError(f"{operation['from']} cannot be moved into itself")
            value = _get(document, source)
            return _add(_remove(document, source), path, value)
        case "test":
            if not _equal(_get(document, path), operation["value"]):
                raise PatchError(f"{operation['path']} is not what it is tested for")
            return document
    raise PatchError(f"{kind!r} is no operation of a JSON patch")


def _source(operation: Json) -> list[str]:
    if not isinstance(operation.get("from"), str):
        raise PatchError(f'the operation "{operation["op"]}" does not say from where')
    return _tokens(operation["from"])


def _tokens(pointer: str) -> list[str]:
    """The steps of a JSON pointer (RFC 6901)."""
    if not pointer:
        return []
    if not pointer.startswith("/"):
        raise PatchError(f'"{pointer}" is no JSON pointer')
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/")]


def _get(document: Json, path: Sequence[str]) -> Json:
    for step in path:
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list):
            document = document[_index(step, len(document) - 1)]
        else:
            raise PatchError(f"there is no /{'/'.join(path)}")
    return document


def _add(document: Json, path: Sequence[str], value: Json) -> Json:
    if not path:
        return value
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if path[-1] == "-" else _index(path[-1], len(parent)), value)
    else:
        raise PatchError(f"/{'/'.join(path[:-1])} holds nothing that can be added to")
    return document


def _remove(document: Json, path: Sequence[str]) -> Json:
    if not path:
        return None
    _get(document, path)
    parent = _get(document, path[:-1])
    del parent[path[-1] if isinstance(parent, dict) else int(path[-1])]
    return document


def _index(step: str, highest: int) -> int:
    if not _INDEX.fullmatch(step) or int(step) > highest:
        raise PatchError(f'"{step}" is no place in a list whose last is {highest}')
    return int(step)


def _equal(one: Json, other: Json) -> bool:
    """As `==`, but true is not 1 (RFC 6902, section 4.6: the same type)."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return bool(one == other)
