"""Dataclasses to JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.container_config import Mount
from host.json_codec import DocumentError, from_document, to_document
from host.network import PublishedPort
from host.process_identity import ProcessIdentity
from host.run_options import RootfsDriver, RunOptions, WindowSize
from host.state import Phase, SandboxRecord

OPTIONS = RunOptions(
    rootfs="/srv/root",
    command=("sh", "-c", "exit 0"),
    mounts=(Mount("/data1", "/v/data1", "bind", ("rbind", "ro")),),
    ports=(PublishedPort(8080, 80),),
    window=WindowSize(24, 80),
    rootfs_driver=RootfsDriver.VIRTIO_SCSI,
)


@given(
    st.builds(
        SandboxRecord,
        id=st.text(),
        name=st.text(),
        options=st.builds(replace, st.just(OPTIONS), command=st.lists(st.text()).map(tuple)),
        phase=st.sampled_from(Phase),
        created_at=st.floats(allow_nan=False, allow_infinity=False),
        exit_status=st.none() | st.integers(),
        monitor=st.none() | st.builds(ProcessIdentity, st.integers(), st.integers()),
        processes=st.lists(st.builds(ProcessIdentity, st.integers(), st.integers())).map(tuple),
    )
)
def test_a_record_survives_the_way_through_json(record: SandboxRecord) -> None:
    assert from_document(SandboxRecord, json.loads(json.dumps(to_document(record)))) == record


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"memory_mib": "512"}, "RunOptions.memory_mib cannot be '512'"),
        ({"memory_mib": True}, "RunOptions.memory_mib cannot be True"),
        ({"wire": "carrier pigeon"}, "RunOptions.wire"),
        ({"mounts": [{"destination": 1}]}, "Mount.destination cannot be 1"),
        ({"window": {"rows": 24}}, "columns"),
        ({"colour": "red"}, "no field colour"),
        ({"command": "sh"}, "RunOptions.command cannot be 'sh'"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DocumentError, match=complaint):
        from_document(RunOptions, to_document(OPTIONS) | change)


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_a_document_must_be_an_object(document: object) -> None:
    with pytest.raises(DocumentError, match="must be an object"):
        from_document(RunOptions, document)


def test_missing_fields_keep_their_defaults() -> None:
    assert from_document(RunOptions, {"rootfs": "/r", "command": ["sh"]}) == RunOptions("/r", ("sh",))


def test_a_field_without_a_default_must_be_there() -> None:
    with pytest.raises(DocumentError, match="command"):
        from_document(RunOptions, {"rootfs": "/r"})
