"""The keys of failures: where each lies, and that no id leads out of its place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.contracts import ErrorDetails, FailureReport, MessageId
from activities.failure_store import LONGEST_SEGMENT, failure_key

REPORT = FailureReport(
    message=MessageId(organisation_id="org-1", project_id="prj-1", pipeline_id="pl-1", message_id="msg-1"),
    workflow="MainWorkflow",
    activity="deliver",
    timestamp="2026-01-02T03:04:05.000006+00:00",
    original_input={},
    current_input=None,
    error=ErrorDetails(type="RejectedError", message="refused"),
)


def key_of_message(message_id: str) -> str:
    return failure_key(replace(REPORT, message=replace(REPORT.message, message_id=message_id)))


def test_a_key_is_as_the_contract_has_it() -> None:
    expected = "org-1/prj-1/pl-1/msg-1/MainWorkflow-deliver-2026-01-02T03:04:05.000006+00:00.json"
    assert failure_key(REPORT) == expected


@pytest.mark.parametrize(
    ("message_id", "segment"),
    [
        ("", "unknown"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("../../etc", "..%2F..%2Fetc"),
        ("a/b", "a%2Fb"),
        ("a\\b", "a%5Cb"),
        ("%2E%2E", "%252E%252E"),
        ("a\x00b\n", "a%00b%0A"),
        ("a b", "a%20b"),
        ("Zoë", "Zo%C3%AB"),
        ("\ud800", "%ED%A0%80"),
    ],
    ids=ascii,
)
def test_an_id_stays_in_its_place(message_id: str, segment: str) -> None:
    assert key_of_message(message_id).split("/")[3] == segment


@given(st.text(st.characters(exclude_categories=())))
def test_any_id_makes_one_plain_part_of_a_key(message_id: str) -> None:
    parts = key_of_message(message_id).split("/")
    assert len(parts) == 5
    assert parts[3].isascii()
    assert parts[3].isprintable()
    assert parts[3] not in {"", ".", ".."}
    assert len(parts[3]) <= LONGEST_SEGMENT


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_ids_have_different_keys(one: str, other: str) -> None:
    assert (key_of_message(one) == key_of_message(other)) == (one == other)


def test_long_ids_that_begin_alike_have_different_keys() -> None:
    one, other = key_of_message("x" * 5000 + "1"), key_of_message("x" * 5000 + "2")
    assert one != other
    assert max(map(len, one.split("/"))) <= LONGEST_SEGMENT


def test_a_long_activity_name_keeps_its_ending() -> None:
    assert failure_key(replace(REPORT, activity="a" * 1000)).endswith(".json")
