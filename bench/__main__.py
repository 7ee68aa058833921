"""Measure every figure and write docs/performance.md: `make bench`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench import agent_figures, guest_figures
from bench.figures import Figure, page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"

MEASUREMENTS = (
    agent_figures.start_to_listening,
    agent_figures.check_latency,
    agent_figures.container_latencies,
    agent_figures.output_throughput,
    agent_figures.idle_cost,
    guest_figures.power_on_to_answer,
)


async def measure() -> list[Figure]:
    """Run the measurements one after the other, so that none disturbs another."""
    figures: list[Figure] = []
    for measurement in MEASUREMENTS:
        for figure in await measurement():
            print(figure.row(), flush=True)
            figures.append(figure)
    return figures


def main() -> int:
    """Measure and write the page. Missing a budget is a fact for the page, not an error."""
    PAGE.write_text(page(asyncio.run(measure())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
