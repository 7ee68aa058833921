"""JSON patches: the operations of RFC 6902, and what is none."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agent.service.json_patch import PatchError, patched

DOCUMENT = {"a": 1, "l": [1, 2, 3], "o": {"x/y": 1, "m~n": 2}, "t": True}

GOOD: dict[str, tuple[list[dict[str, Any]], Any]] = {
    "add a member": ([{"op": "add", "path": "/b", "value": 2}], {**DOCUMENT, "b": 2}),
    "add over a member": ([{"op": "add", "path": "/a", "value": 2}], {**DOCUMENT, "a": 2}),
    "add to a list": ([{"op": "add", "path": "/l/1", "value": 9}], {**DOCUMENT, "l": [1, 9, 2, 3]}),
    "add at the end": ([{"op": "add", "path": "/l/-", "value": 9}], {**DOCUMENT, "l": [1, 2, 3, 9]}),
    "add the whole": ([{"op": "add", "path": "", "value": 5}], 5),
    "remove": ([{"op": "remove", "path": "/a"}], {k: v for k, v in DOCUMENT.items() if k != "a"}),
    "remove from a list": ([{"op": "remove", "path": "/l/0"}], {**DOCUMENT, "l": [2, 3]}),
    "replace": ([{"op": "replace", "path": "/l/2", "value": 9}], {**DOCUMENT, "l": [1, 2, 9]}),
    "replace the whole": ([{"op": "replace", "path": "", "value": {}}], {}),
    "copy": ([{"op": "copy", "from": "/a", "path": "/b"}], {**DOCUMENT, "b": 1}),
    "move": (
        [{"op": "move", "from": "/o/x~1y", "path": "/b"}],
        {**DOCUMENT, "o": {"m~n": 2}, "b": 1},
    ),
    "move to itself": ([{"op": "move", "from": "/a", "path": "/a"}], DOCUMENT),
    "test": ([{"op": "test", "path": "/o/m~0n", "value": 2}], DOCUMENT),
    "several": (
        [{"op": "add", "path": "/n", "value": {}}, {"op": "add", "path": "/n/k", "value": [1]}],
        {**DOCUMENT, "n": {"k": [1]}},
    ),
}
BAD: dict[str, Any] = {
    "no object": 1,
    "no operation": {"path": "/a"},
    "unknown operation": {"op": "dance", "path": "/a"},
    "no path": {"op": "remove"},
    "no pointer": {"op": "remove", "path": "a"},
    "no value": {"op": "add", "path": "/b"},
    "no source": {"op": "move", "path": "/b"},
    "remove what is not there": {"op": "remove", "path": "/b"},
    "replace what is not there": {"op": "replace", "path": "/b", "value": 1},
    "below what is not there": {"op": "add", "path": "/b/c", "value": 1},
    "below a number": {"op": "add", "path": "/a/c", "value": 1},
    "beyond a list": {"op": "add", "path": "/l/5", "value": 1},
    "remove beyond a list": {"op": "remove", "path": "/l/4"},
    "no index": {"op": "remove", "path": "/l/01"},
    "remove the end": {"op": "remove", "path": "/l/-"},
    "into itself": {"op": "move", "from": "/o", "path": "/o/z"},
    "test fails": {"op": "test", "path": "/a", "value": 2},
    "true is not one": {"op": "test", "path": "/t", "value": 1},
    "nor in a list": {"op": "test", "path": "/l", "value": [True, 2, 3]},
}


@pytest.mark.parametrize("name", GOOD)
def test_operations(name: str) -> None:
    operations, expected = GOOD[name]
    before = copy.deepcopy(DOCUMENT)
    assert patched(DOCUMENT, operations) == expected
    assert before == DOCUMENT


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_changes_nothing(name: str) -> None:
    before = copy.deepcopy(DOCUMENT)
    with pytest.raises(PatchError):
        patched(DOCUMENT, [{"op": "add", "path": "/l/-", "value": 4}, BAD[name]])
    assert before == DOCUMENT
