"""The text format in which Prometheus reads metrics.

Source: the Prometheus documentation, "Exposition formats", text format 0.0.4. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Sample:
    """One number, and the labels that tell it from the others of its family."""

    value: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """All samples of one metric."""

    name: str
    help: str
    samples: tuple[Sample, ...]
    kind: Literal["gauge", "counter"] = "gauge"


def number(name: str, text: str, value: float, kind: Literal["gauge", "counter"] = "gauge") -> Family:
    """A family of one sample without labels."""
    return Family(name, text, (Sample(value, {}),), kind)


def items(name: str, text: str, values: Mapping[str, float], **labels: str) -> Family:
    """A family of one sample for each of `values`, whose name is in the label `item`."""
    return Family(
        name, text, tuple(Sample(value, {**labels, "item": item}) for item, value in values.items())
    )


def nested_items(name: str, text: str, values: Mapping[str, Mapping[str, float]], *, label: str) -> Family:
    """As `items`, for several things of a kind; which one it is, is in the label `label`."""
    families = (items(name, text, inner, **{label: outer}) for outer, inner in values.items())
    return Family(name, text, tuple(sample for family in families for sample in family.samples))


def exposition(families: Iterable[Family]) -> str:
    """All families as text; those without samples are left out."""
    return "".join(_family(family) for family in families if family.samples)


def _family(family: Family) -> str:
    lines = [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
    for sample in family.samples:
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels.items())
        lines.append(
            f"{family.name}{{{labels}}} {sample.value}" if labels else f"{family.name} {sample.value}"
        )
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
