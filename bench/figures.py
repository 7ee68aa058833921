"""A measured figure beside its budget, and the page that shows them."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One number as it was measured. `at_least` turns the budget round: more is better."""

    name: str
    value: float
    budget: float | None
    unit: str
    at_least: bool = False
    note: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the budget holds; a figure without one always does."""
        if self.budget is None:
            return True
        return self.value >= self.budget if self.at_least else self.value <= self.budget

    def row(self) -> str:
        """The figure as a row of a Markdown table."""
        sign = "≥" if self.at_least else "≤"
        budget = f"{sign} {self.budget:g} {self.unit}" if self.budget is not None else "none set"
        verdict = "yes" if self.is_kept else "**no**"
        return f"| {self.name} | {self.value:.4g} {self.unit} | {budget} | {verdict} | {self.note} |"


def machine() -> str:
    """The machine in one line: processor, cores, kernel, Python."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}"


def page(figures: Sequence[Figure]) -> str:
    """The whole of docs/performance.md."""
    rows = "\n".join(figure.row() for figure in figures)
    return f"""# Performance

Measured by `make bench` on: {machine()}.

Figures of one run; medians where a note says so. "Under TCG" is a guest whose processor QEMU emulates, about
15 times slower than the machine.

| figure | measured | budget | kept | how |
| --- | --- | --- | --- | --- |
{rows}
"""
