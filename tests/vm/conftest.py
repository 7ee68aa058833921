"""What every VM test has: the boots are counted, and a failure shows the guest's console."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from host.vm.qemu import Vm
from tests.vm.machines import BootedVm

_CONSOLE_LINES = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder boots the guest image."""
    for item in items:
        if "tests/vm/" in str(item.path):
            item.add_marker(pytest.mark.vm)


@pytest.fixture(scope="session")
def count_boot(record_testsuite_property: Callable[[str, object], None]) -> Iterator[Callable[[], None]]:
    """Call it once per boot; the number goes into the JUnit report, where `tests.floors` reads it."""
    boots: list[None] = []
    yield lambda: boots.append(None)
    record_testsuite_property("boots", len(boots))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Attach the console of every machine that a failed test used."""
    report: Any = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            vm = value.vm if isinstance(value, BootedVm) else value
            if isinstance(vm, Vm):
                report.sections.append((f"console of {name}", vm.console_tail(_CONSOLE_LINES)))
    return report
