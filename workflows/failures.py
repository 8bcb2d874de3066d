"""A message's failures on their way to the failure store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from temporalio import workflow

from activities.contracts import ErrorDetails, FailureReport, FailureReports, MessageId
from activities.data_converter import json_size
from activities.failures import FailureLogger
from workflows import policies
from workflows.pacing import Pacing
from workflows.reports import bounded, timestamp


def destination_queue() -> str:
    """Where deliveries and failures are queued."""
    return workflow.info().task_queue + policies.DESTINATION_QUEUE_SUFFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What failed: at which activity, why, with which inputs (`current` None: the original one)."""

    activity: str
    error: ErrorDetails
    original: Any
    current: Any = None
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Failures:
    """Stores a message's failures, those that are known at the same time together, each under a key of its own.

    Attributes:
        count: How many there were.
    """

    message: MessageId
    pacing: Pacing
    count: int = 0

    async def store(self, failures: Iterable[Failure]) -> None:
        """Store failures; returns once they are stored, however long the store is away."""
        reports = [self._report(failure) for failure in failures]
        await asyncio.gather(*(self._log(group, size) for group, size in _groups(reports)))

    def _report(self, failure: Failure) -> FailureReport:
        report = FailureReport(
            message=self.message,
            workflow=workflow.info().workflow_type,
            activity=failure.activity,
            timestamp=timestamp(workflow.now(), self.count),
            original_input=failure.original,
            current_input=failure.current,
            error=failure.error,
            context=failure.context,
        )
        self.count += 1
        return bounded(report)

    async def _log(self, reports: list[FailureReport], size: int) -> None:
        await self.pacing.ask_for(size)
        await workflow.execute_activity_method(
            FailureLogger.log_failure,
            FailureReports(reports=reports),
            task_queue=destination_queue(),
            **policies.LOG_FAILURE,
        )


def _groups(reports: list[FailureReport]) -> Iterator[tuple[list[FailureReport], int]]:
    """Reports that are stored together, and their size in bytes."""
    group: list[FailureReport] = []
    total = 0
    for report in reports:
        size = json_size(report)
        if group and (len(group) == policies.FAILURES_TOGETHER or total + size > policies.FAILURES_TOGETHER_BYTES):
            yield group, total
            group, total = [], 0
        group.append(report)
        total += size
    if group:
        yield group, total
