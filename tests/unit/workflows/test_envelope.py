"""Reading what the API server sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import policies
from workflows.envelope import Envelope, InvalidMessageError, guess_identifiers, next_chunk

METADATA = {"organisationId": "o", "projectId": "p", "pipelineId": "l", "messageId": "m"}


def test_a_single_record_is_a_batch_of_one() -> None:
    envelope = Envelope.parse({"metadata": METADATA, "log_data": {"a": 1}})
    assert envelope.records == [{"a": 1}]
    assert not envelope.is_batch
    assert envelope.original_input == {"a": 1}


def test_a_batch_keeps_every_element_even_one_that_is_no_object() -> None:
    envelope = Envelope.parse({"metadata": METADATA, "log_batch": [{"a": 1}, "text", None]})
    assert envelope.records == [{"a": 1}, "text", None]
    assert envelope.is_batch


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "no object"),
        ([], "no object"),
        ("text", "no object"),
        ({"log_data": {}}, "metadata"),
        ({"metadata": "x", "log_data": {}}, "metadata"),
        ({"metadata": {**METADATA, "pipelineId": ""}, "log_data": {}}, "lacks pipelineId"),
        ({"metadata": {**METADATA, "messageId": 7}, "log_data": {}}, "lacks messageId"),
        ({"metadata": {**METADATA, "messageId": "x" * 1_000_000}, "log_data": {}}, "lacks messageId"),
        ({"metadata": METADATA}, "log_data"),
        ({"metadata": METADATA, "log_data": [1]}, "log_data"),
        ({"metadata": METADATA, "log_batch": {"a": 1}}, "log_batch"),
        ({"metadata": METADATA, "log_batch": None}, "log_batch"),
    ],
)
def test_a_malformed_message_is_refused_by_naming_what_is_wrong(value: Any, problem: str) -> None:
    with pytest.raises(InvalidMessageError, match=problem):
        Envelope.parse(value)


def test_identifiers_that_are_there_are_kept_for_the_failure() -> None:
    found = guess_identifiers({"metadata": {"organisationId": "o", "projectId": 3}}, "the workflow")
    assert (found.organisation_id, found.project_id, found.message_id) == ("o", "unknown", "the workflow")
    long = guess_identifiers({"metadata": {"messageId": "x" * 1_000_000}}, "the workflow")
    assert long.message_id == "the workflow"


def chunks(records: list[Any]) -> list[tuple[int, list[Any]]]:
    """All chunks of some records, each with its first one's position."""
    found, first = [], 0
    while first < len(records):
        found.append((first, next_chunk(records, first)))
        first += len(found[-1][1])
    return found


@given(st.lists(st.text(max_size=50) | st.integers()))
def test_chunks_are_the_records_in_order(records: list[Any]) -> None:
    """Nothing is lost, repeated or moved, whatever the records are."""
    found = chunks(records)
    assert [record for _, part in found for record in part] == records
    assert all(records[first : first + len(part)] == part for first, part in found)
    assert all(part for _, part in found)


def test_chunks_are_bounded_by_count_and_by_bytes() -> None:
    small = [{"n": n} for n in range(2 * policies.CHUNK_RECORDS + 1)]
    assert [len(part) for _, part in chunks(small)] == [policies.CHUNK_RECORDS, policies.CHUNK_RECORDS, 1]
    large = ["x" * 100_000] * 10
    assert all(len(json.dumps(part)) <= policies.CHUNK_BYTES + 100 for _, part in chunks(large))
    assert sum(len(part) for _, part in chunks(large)) == len(large)


def test_a_record_beyond_the_chunk_size_travels_alone() -> None:
    giant = "x" * (policies.CHUNK_BYTES + 1)
    assert [len(part) for _, part in chunks(["a", giant, "b"])] == [1, 1, 1]
