"""The account of a run: every record is explained, or named as not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from workers.demo.accounting import Account, Arrival, StoredFailure, draw_up
from workers.demo.sending import Message, Outcome, make_messages, record_id

ID = record_id("demo-0", 1)
(MESSAGE,) = make_messages([{"level": "ERROR"}], "demo-0")


def _account(
    result: dict[str, Any], *arrivals: str, failures: Sequence[str] = (), message: Message = MESSAGE
) -> Account:
    return draw_up(
        [Outcome(message=message, result=result)],
        [Arrival(destination, ID) for destination in arrivals],
        [StoredFailure(place, ID) for place in failures],
    )


def _reached(*nodes: str, **more: Any) -> dict[str, Any]:
    return {"success": True, "node_outputs": {node: [{}] for node in nodes}, **more}


def test_a_delivery_that_was_due_and_arrived_is_accounted_for() -> None:
    account = _account(_reached("branch", "alerts"), "alerts")
    assert (account.problems, account.delivered, account.filtered) == ([], {"alerts": 1, "archive": 0}, 0)


def test_a_record_without_deliveries_and_failures_was_filtered() -> None:
    account = _account(_reached("branch"))
    assert (account.problems, account.filtered, account.records) == ([], 1, 1)


def test_a_delivery_that_never_arrived_is_named() -> None:
    account = _account(_reached("alerts", "archive"), "archive")
    assert account.problems == [(ID, "never arrived at alerts")]
    assert account.unaccounted == 1


def test_a_stored_failure_explains_a_delivery_that_did_not_arrive() -> None:
    account = _account(_reached("alerts", failures=1), failures=["alerts"])
    assert (account.problems, account.failed["alerts"], account.filtered) == ([], 1, 0)


def test_a_failure_at_one_destination_does_not_explain_another() -> None:
    account = _account(_reached("alerts", "archive", failures=1), failures=["archive"])
    assert account.problems == [(ID, "never arrived at alerts")]


def test_a_delivery_that_arrived_and_was_refused_has_failed() -> None:
    account = _account(_reached("alerts", failures=1), "alerts", failures=["alerts"])
    assert (account.problems, account.delivered["alerts"], account.failed["alerts"]) == ([], 0, 1)


def test_a_failure_in_the_pipeline_is_accounted_for() -> None:
    account = _account(_reached("branch", failures=1), failures=["pipeline"])
    assert (account.problems, account.failed["pipeline"], account.filtered) == ([], 1, 0)


@pytest.mark.parametrize(("counted", "stored"), [(1, []), (0, ["pipeline"])])
def test_a_failure_that_only_one_side_knows_is_named(counted: int, stored: list[str]) -> None:
    account = _account(_reached("branch", failures=counted), failures=stored)
    assert [name for name, _ in account.problems] == [ID]


def test_a_delivery_that_was_not_due_is_named() -> None:
    account = _account(_reached("alerts"), "alerts", "archive")
    assert account.problems == [(ID, "arrived at archive, where it was not due")]


@pytest.mark.parametrize("unknown", [None, "demo-0-9999999"])
def test_a_delivery_of_what_nobody_sent_is_named(unknown: str | None) -> None:
    account = draw_up([Outcome(message=MESSAGE, result=_reached("branch"))], [Arrival("archive", unknown)], [])
    assert len(account.problems) == 1
    assert account.delivered["archive"] == 0


@pytest.mark.parametrize("failure", [StoredFailure("pipeline", "other"), StoredFailure("pipeline", ID, record_index=1)])
def test_a_failure_of_what_nobody_sent_is_named(failure: StoredFailure) -> None:
    account = draw_up([Outcome(message=MESSAGE, result=_reached("branch"))], [], [failure])
    assert len(account.problems) == 1


def test_a_second_copy_is_counted_and_no_fault() -> None:
    account = _account(_reached("alerts"), "alerts", "alerts")
    assert (account.problems, account.delivered["alerts"], account.repeated) == ([], 1, 1)


def test_a_refused_message_is_not_accounted_for() -> None:
    account = _account({"success": False, "reason": "the pipeline cannot be run"}, failures=["pipeline"])
    assert account.problems == [(ID, "refused: the pipeline cannot be run")]


def test_a_message_without_result_is_not_accounted_for() -> None:
    account = draw_up([Outcome(message=MESSAGE, problem="no result within 120 s")], [Arrival("alerts", ID)], [])
    assert account.problems == [(ID, "no result within 120 s")]


def test_where_outputs_were_left_out_what_arrived_counts() -> None:
    account = _account({"success": True, "node_outputs_omitted": True}, "archive")
    assert (account.problems, account.delivered["archive"], account.filtered) == ([], 1, 0)


@pytest.fixture
def batch() -> Message:
    (message,) = make_messages([{}] * 4, "demo-0", 4)
    return message


def _batch_account(batch: Message, **counts: int) -> Account:
    """Of four records, the first two arrived, the second failed as well, the third failed, the fourth did nothing."""
    result = {"success": True, "records": 4, "delivered": 1, "filtered": 1, "failed": 2} | counts
    return draw_up(
        [Outcome(message=batch, result=result)],
        [Arrival("archive", record_id("demo-0", number)) for number in (1, 2)],
        [StoredFailure("alerts", batch.message_id, 1), StoredFailure("pipeline", batch.message_id, 2)],
    )


def test_a_batch_whose_counts_are_true_is_accounted_for(batch: Message) -> None:
    account = _batch_account(batch)
    assert (account.problems, account.records, account.filtered, account.unaccounted) == ([], 4, 1, 0)
    assert account.failed == {"alerts": 1, "archive": 0, "pipeline": 1}


@pytest.mark.parametrize("count", ["records", "delivered", "filtered", "failed"])
def test_a_batch_with_a_wrong_count_is_not_accounted_for(batch: Message, count: str) -> None:
    account = _batch_account(batch, **{count: 3})
    assert account.unaccounted == 4
    assert account.problems[0][0] == batch.message_id
    assert f"{count}: 3, in truth" in account.problems[0][1]
