"""Structured logs: every line of an activity says whose message it is about."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.contracts import (
    DeliverInput,
    ErrorDetails,
    FailureReport,
    FailureReports,
    MessageId,
    TargetDelivery,
)
from workers.logs import JSONFormatter, LogContext

MESSAGE = MessageId(organisation_id="o", project_id="p", pipeline_id="l", message_id="m")
REPORT = FailureReport(
    message=MESSAGE,
    workflow="MainWorkflow",
    activity="deliver",
    timestamp="t",
    original_input={},
    current_input=None,
    error=ErrorDetails(type="T", message="m"),
)


class Logging(ActivityInboundInterceptor):
    """An activity that logs a line, and gives it as it is formatted."""

    def __init__(self) -> None:
        """There is nothing behind it."""

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ARG002 - the SDK's signature
        """Log the line."""
        record = logging.LogRecord("activity", logging.INFO, __file__, 1, "a line", None, None)
        return json.loads(JSONFormatter().format(record))


@pytest.mark.parametrize(
    "argument",
    [
        MESSAGE,
        DeliverInput(message=MESSAGE, delivery=TargetDelivery(target_id="t", items=[])),
        FailureReports(reports=[REPORT]),
    ],
    ids=lambda argument: type(argument).__name__,
)
async def test_a_line_names_the_message_whatever_the_activity_takes(argument: Any) -> None:
    activity = LogContext().intercept_activity(Logging())
    call = ExecuteActivityInput(fn=print, args=[argument], executor=None, headers={})
    line = await activity.execute_activity(call)
    assert [line[name] for name in ("organisationId", "projectId", "pipelineId", "messageId")] == ["o", "p", "l", "m"]
