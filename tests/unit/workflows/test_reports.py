"""Failure reports: keys that differ, inputs that fit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio import exceptions
from temporalio.exceptions import ActivityError, ApplicationError, RetryState, TimeoutType

from activities.contracts import ErrorDetails, FailureReport, MessageId
from workflows import policies
from workflows.reports import bounded, error_details, timestamp, told_progress

MESSAGE = MessageId(organisation_id="o", project_id="p", pipeline_id="l", message_id="m")


def report(original: Any, current: Any) -> FailureReport:
    return FailureReport(
        message=MESSAGE,
        workflow="MainWorkflow",
        activity="deliver",
        timestamp="t",
        original_input=original,
        current_input=current,
        error=ErrorDetails(type="T", message="m"),
    )


def activity_error(cause: BaseException | None) -> ActivityError:
    error = ActivityError(
        "activity failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="deliver",
        activity_id="1",
        retry_state=RetryState.TIMEOUT,
    )
    error.__cause__ = cause
    return error


def test_failures_of_one_moment_get_timestamps_of_their_own() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    stamps = [timestamp(now, sequence) for sequence in range(3)]
    assert stamps[0] == "2026-01-01T00:00:00.000000Z"
    assert len(set(stamps)) == len(stamps)


def test_a_report_that_fits_is_left_alone() -> None:
    whole = report({"a": 1}, {"a": 2})
    assert bounded(whole) is whole


def test_inputs_that_do_not_fit_are_left_out_and_the_report_says_so() -> None:
    large = "x" * (policies.REPORT_LIMIT_BYTES - 1000)
    without_current = bounded(report("small", large + large))
    assert without_current.original_input == "small"
    assert without_current.current_input is None
    assert without_current.context["currentInputOmittedBytes"] > policies.REPORT_LIMIT_BYTES
    assert "originalInputOmittedBytes" not in without_current.context
    without_both = bounded(report(large + large, large))
    assert without_both.original_input is None
    assert without_both.context["originalInputOmittedBytes"] > policies.REPORT_LIMIT_BYTES


def test_the_error_stored_is_the_last_attempts_own() -> None:
    details = error_details(activity_error(ApplicationError("target t is gone", type="NotFoundError")), "delivering")
    assert (details.type, details.message, details.description) == ("NotFoundError", "target t is gone", "delivering")


def test_a_time_out_is_explained_by_the_attempt_before_it() -> None:
    expired = exceptions.TimeoutError("timeout", type=TimeoutType.SCHEDULE_TO_CLOSE, last_heartbeat_details=[])
    expired.__cause__ = ApplicationError("receiver answered 503", type="UnavailableError")
    details = error_details(activity_error(expired), "delivering")
    assert details.type == "UnavailableError"
    assert details.message == "gave up: receiver answered 503"


def test_a_bare_time_out_names_which_one() -> None:
    expired = exceptions.TimeoutError("timeout", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[])
    details = error_details(activity_error(expired), "delivering")
    assert (details.type, details.message) == ("TimeoutError", "timed out (HEARTBEAT)")


def test_a_report_is_measured_as_a_whole() -> None:
    """Long texts of an error count as well."""
    long = report("x" * (policies.REPORT_LIMIT_BYTES - 1000), None)
    wordy = bounded(replace(long, error=ErrorDetails(type="T", message="m" * 2000)))
    assert wordy.original_input is None


@pytest.mark.parametrize(
    "cause",
    [
        ApplicationError("away", ["d."], [], type="UnavailableError"),
        exceptions.TimeoutError("timeout", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[["d."], []]),
    ],
)
def test_what_a_delivery_told_of_its_progress_is_found_whatever_ended_it(cause: BaseException) -> None:
    assert list(told_progress(activity_error(cause))) == [["d."], []]


def test_a_time_out_knows_of_the_progress_through_the_attempt_before_it() -> None:
    expired = exceptions.TimeoutError("timeout", type=TimeoutType.SCHEDULE_TO_CLOSE, last_heartbeat_details=[])
    expired.__cause__ = ApplicationError("away", "d.", [], type="UnavailableError")
    assert list(told_progress(activity_error(expired))) == ["d.", []]


def test_an_error_that_tells_nothing_tells_nothing() -> None:
    assert list(told_progress(activity_error(None))) == []
