"""Run the floors of tests one after the other, and say what ran: `python -m tests.floors unit vm`.

A floor that runs no test, or skips one, has failed: a missing tool must not look like success.
"""

from __future__ import annotations

import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
REPORTS = PROJECT / "build" / "test-reports"


@dataclass(frozen=True, slots=True)
class FloorResult:
    """What one floor's JUnit file says."""

    name: str
    tests: int
    failures: int
    skips: int
    boots: int
    seconds: float

    @property
    def passed(self) -> bool:
        return self.tests > 0 and self.failures == 0 and self.skips == 0

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        return (
            f"{self.name:<12} {self.tests:>5} tests {self.boots:>4} boots {self.skips:>3} skips "
            f"{self.failures:>3} failures {self.seconds:>7.0f} s  {verdict}"
        )


def read_report(name: str, report: Path, seconds: float) -> FloorResult:
    """Count what ran in a JUnit file; a file that is missing counts as one failure."""
    if not report.exists():
        return FloorResult(name, 0, 1, 0, 0, seconds)
    root = ElementTree.parse(report).getroot()
    cases = list(root.iter("testcase"))
    failures = sum(1 for case in cases if case.find("failure") is not None or case.find("error") is not None)
    skips = sum(1 for case in cases if case.find("skipped") is not None)
    boots = sum(
        int(entry.get("value", "0")) for entry in root.iter("property") if entry.get("name") == "boots"
    )
    return FloorResult(name, len(cases), failures, skips, boots, seconds)


def run_floor(name: str) -> FloorResult:
    """Run one floor by pytest in a process of its own."""
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", f"tests/{name}", f"--junitxml={report}", "--durations=10"]
    started = time.monotonic()
    status = subprocess.run(command, cwd=PROJECT, check=False).returncode
    result = read_report(name, report, time.monotonic() - started)
    if status != 0 and result.passed:
        return FloorResult(name, result.tests, 1, result.skips, result.boots, result.seconds)
    return result


def main(floors: list[str]) -> int:
    """Run `floors`, print the summary, and answer 0 only if each of them passed."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    results = [run_floor(name) for name in floors]
    print()
    for result in results:
        print(result)
    failed = sum(1 for result in results if not result.passed)
    total = sum(result.tests - result.failures - result.skips for result in results)
    bad = sum(result.failures for result in results)
    skips = sum(result.skips for result in results)
    print(f"\n{total} passed, {bad} failed, {skips} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
