"""Frozen dataclasses to JSON documents and back, by their annotations.

Both ends of a document are this project: what a run asked for (`run_options`), what is known of a
sandbox (`state`) and what a monitor and its clients say to each other (`monitor_protocol`).
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


class DocumentError(ValueError):
    """A JSON document does not have the shape that its dataclass asks for."""


def to_document(value: object) -> Any:  # noqa: ANN401 - a JSON value has no narrower type
    """`value` as plain JSON types: dataclasses become objects, tuples arrays, enums their values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_document(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [to_document(item) for item in value]
    return value


def from_document(kind: type[T], document: object) -> T:
    """The `kind` that `document` describes; fields that are missing keep their defaults.

    Raises DocumentError naming the field whose value does not fit.
    """
    if not isinstance(document, dict):
        raise DocumentError(f"{kind.__name__} must be an object, not {document!r}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(document) - set(hints))
    if unknown:
        raise DocumentError(f"{kind.__name__} has no field {', '.join(map(str, unknown))}")
    values = {name: _value(hints[name], item, f"{kind.__name__}.{name}") for name, item in document.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise DocumentError(str(error)) from error


def _value(hint: Any, item: object, where: str) -> Any:  # noqa: ANN401 - hints and JSON are untyped
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if item is None and type(None) in arguments:
            return None
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return _value(inner, item, where)
    if origin is typing.Literal and item in arguments:
        return item
    if origin is tuple and isinstance(item, list):
        return tuple(_value(arguments[0], part, where) for part in item)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_document(hint, item)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        try:
            return hint(item)
        except ValueError as error:
            raise DocumentError(f"{where}: {error}") from error
    if hint is float and isinstance(item, int) and not isinstance(item, bool):
        return float(item)
    if isinstance(hint, type) and type(item) is hint:
        return item
    raise DocumentError(f"{where} cannot be {item!r}")
