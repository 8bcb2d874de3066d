"""Messages are made as the API server makes them."""

from __future__ import annotations

from typing import Any

import pytest

from workers.demo.sending import BATCH_BYTES, make_messages, run_name


def test_a_record_is_a_message_with_its_id_in_metadata_and_in_the_record() -> None:
    (message,) = make_messages([{"level": "INFO"}], "demo-0")
    assert message.message_id == "demo-0-0000001"
    assert message.workflow_id == "log_process-acme-webshop-by-level-demo-0-0000001"
    assert message.argument == {
        "metadata": {
            "organisationId": "acme",
            "projectId": "webshop",
            "pipelineId": "by-level",
            "messageId": "demo-0-0000001",
        },
        "log_data": {"level": "INFO", "messageId": "demo-0-0000001"},
    }


def test_a_records_own_message_id_gives_way() -> None:
    (message,) = make_messages([{"messageId": "theirs"}], "demo-0")
    assert message.argument["log_data"] == {"messageId": "demo-0-0000001"}


@pytest.mark.parametrize(("size", "lengths"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_batches_hold_at_most_so_many_records_in_order(size: int, lengths: list[int]) -> None:
    messages = make_messages([{"n": number} for number in range(5)], "demo-0", size)
    records: list[Any] = [record for message in messages for record in message.argument["log_batch"]]
    assert [len(message.records) for message in messages] == lengths
    assert [record["n"] for record in records] == list(range(5))
    assert len({record["messageId"] for record in records}) == 5
    assert len({message.message_id for message in messages}) == len(messages)


def test_a_batch_ends_early_rather_than_near_the_payload_limit() -> None:
    large = {"message": "x" * (BATCH_BYTES // 3)}
    assert [len(message.records) for message in make_messages([large] * 5, "demo-0", 500)] == [2, 2, 1]


def test_no_records_make_no_message() -> None:
    assert make_messages([], "demo-0") == make_messages([], "demo-0", 10) == []


def test_runs_have_names_of_their_own() -> None:
    assert run_name() != run_name()
