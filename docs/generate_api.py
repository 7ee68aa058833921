"""Write docs/api.md from the table of routes, the handlers' docstrings and the names of the tests.

`--check` compares it with the file instead, and says what to do if they differ.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.service.routes import AGENT_SERVICE, HEALTH_SERVICE, ROUTES, UNSUPPORTED
from protos import kata1, kata2
from tests.contract.rpc import containers, guest, processes

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "api.md"
TABLES = {**containers.TABLES, **processes.TABLES, **guest.TABLES}

# What the words of tests/privileged/agents.py stand for.
_WORDS = {
    "create": {"CreateContainer"},
    "run": {"CreateContainer", "StartContainer"},
    "wait": {"WaitProcess"},
    "read": {"ReadStdout"},
    "chunks": {"ReadStdout"},
    "output": {"ReadStdout"},
    "remove": {"RemoveContainer"},
    "finish": {"DestroySandbox"},
}

_HEAD = """\
# The agent's API

Written by `docs/generate_api.py`; `make check` fails when it is stale.

Hosts of Kata 1.x speak gRPC, those of Kata 2 to 4 ttrpc; both come to the same port
([protocol.md](protocol.md)). {union} methods and Health's two: {old} for the former, {later} for the latter.

*Rows* are those of the [tables](../tests/contract/rpc) for either generation: a call in a given state, its
answer or its code, and the state afterwards, run over the real wire against a running agent by
[test_rpc_tables.py](../tests/privileged/test_rpc_tables.py). The tests by name are further down.

| method | Kata 1.x | Kata 2 to 4 | rows | what it does |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    """The text of docs/api.md."""
    tests = tests_by_method()
    methods = [
        (service, method) for service in (HEALTH_SERVICE, AGENT_SERVICE) for method in _methods(service)
    ]
    counts = [len(messages.SERVICES[AGENT_SERVICE]) for messages in (kata1, kata2)]
    lines = [_HEAD.format(union=len(_methods(AGENT_SERVICE)), old=counts[0], later=counts[1])]
    lines += [_row(service, method) for service, method in methods]
    lines.append("\n## Tests that call them\n\n")
    for _, method in methods:
        named = ", ".join(f"{name} ({path})" for path, name in tests[method])
        lines.append(f"- **{method}**: {named or 'test_row (tests/privileged/test_rpc_tables.py)'}\n")
    return "".join(lines)


def _methods(service: str) -> list[str]:
    return sorted({method for messages in (kata1, kata2) for method in messages.SERVICES[service]})


def _row(service: str, method: str) -> str:
    old, later = (method in messages.SERVICES[service] for messages in (kata1, kata2))
    table = TABLES[method]
    rows = [
        str(sum(row.old is not None for row in table)) if old else "-",
        str(sum(row.later is not None for row in table)) if later else "-",
    ]
    cells = [
        f"`{method}`",
        _served(method, old),
        _served(method, later),
        " / ".join(rows),
        what(service, method),
    ]
    return f"| {' | '.join(cells)} |\n"


def _served(method: str, exists: bool) -> str:
    if not exists:
        return "no such method"
    return "unimplemented" if method in UNSUPPORTED else "yes"


def what(service: str, method: str) -> str:
    """The first sentence of the handler's docstring."""
    if method in UNSUPPORTED:
        return f"Answers: {UNSUPPORTED[method]}."
    text = " ".join((inspect.getdoc(ROUTES[service][method]) or "").split("\n\n")[0].split())
    return text.split(". ")[0].removesuffix(".").replace("|", "\\|") + "."


def tests_by_method() -> Mapping[str, list[tuple[str, str]]]:
    """The tests that name a method, or a word that stands for it, as (file, name), sorted."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    known = {method for service in ROUTES for method in _methods(service)}
    for path in sorted((PROJECT / "tests").rglob("test_*.py")):
        for function in _test_functions(ast.parse(path.read_text())):
            for method in _called(function) & known:
                found[method].add((str(path.relative_to(PROJECT)), function.name))
    return defaultdict(list, {method: sorted(tests) for method, tests in found.items()})


def _test_functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def _called(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    called: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            called.add(node.value)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "host":
            called |= _WORDS.get(node.attr, set())
    return called


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it; 1 if it is stale."""
    if "--check" not in arguments:
        PAGE.write_text(page())
        return 0
    if PAGE.exists() and PAGE.read_text() == page():
        return 0
    sys.stderr.write("docs/api.md is stale: run `make api-page`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
