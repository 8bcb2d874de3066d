"""Failure reports: what is stored of a failure, from what an activity's failure tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from temporalio import exceptions
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

from activities.contracts import ErrorDetails, FailureReport
from activities.data_converter import json_size
from workflows.policies import REPORT_LIMIT_BYTES


def error_details(error: FailureError, description: str) -> ErrorDetails:
    """The error that ended an activity: the last attempt's own, or that time ran out.

    A local activity's failure arrives as the last attempt's own error, another's wrapped in an ActivityError.
    """
    cause = _cause(error)
    if isinstance(cause, ApplicationError):
        return _told_by(cause, cause.message, description)
    if isinstance(cause, exceptions.TimeoutError):
        return _timed_out(cause, description)
    kind = type(cause if cause is not None else error).__name__
    return ErrorDetails(type=kind, message=str(cause or error), description=description)


def _timed_out(cause: exceptions.TimeoutError, description: str) -> ErrorDetails:
    """A time-out says little by itself; the attempt before it says why."""
    last = cause.cause
    if isinstance(last, ApplicationError):
        return _told_by(last, f"gave up: {last.message}", description)
    kind = cause.type.name if cause.type is not None else "unknown"
    return ErrorDetails(type="TimeoutError", message=f"timed out ({kind})", description=description)


def _told_by(error: ApplicationError, message: str, description: str) -> ErrorDetails:
    stack = error.failure.stack_trace if error.failure is not None else ""
    return ErrorDetails(type=error.type or type(error).__name__, message=message, stack=stack, description=description)


def _cause(error: FailureError) -> BaseException | None:
    return error.cause if isinstance(error, ActivityError) else error


def timestamp(now: datetime, sequence: int) -> str:
    """When a failure happened, ISO 8601 in UTC.

    The workflow's clock stands still between its tasks, so each failure of a message is put one microsecond later
    than the one before it: their keys differ, and stay the same in a retry.
    """
    return (now + timedelta(microseconds=sequence)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def bounded(report: FailureReport) -> FailureReport:
    """The report within what a payload may hold: inputs that do not fit are left out, and the report says so."""
    if json_size(report) <= REPORT_LIMIT_BYTES:
        return report
    current = {"currentInputOmittedBytes": json_size(report.current_input)} if report.current_input is not None else {}
    kept = replace(report, current_input=None, context={**report.context, **current})
    if json_size(kept) <= REPORT_LIMIT_BYTES:
        return kept
    original = {"originalInputOmittedBytes": json_size(report.original_input)}
    return replace(kept, original_input=None, context={**kept.context, **original})


def told_progress(error: FailureError) -> Sequence[Any]:
    """What a delivery that ended in failure told of its progress; empty where it told nothing."""
    cause = _cause(error)
    if isinstance(cause, exceptions.TimeoutError):
        last = cause.cause
        return last.details if isinstance(last, ApplicationError) else cause.last_heartbeat_details
    return cause.details if isinstance(cause, ApplicationError) else ()
