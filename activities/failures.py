"""The activity that stores failures."""

from __future__ import annotations

import asyncio

from temporalio import activity

from activities.contracts import FailureReport, FailureReports
from activities.failure_store import FailureStore
from activities.metrics import WorkerMetrics

PUTS_AT_ONCE = 16


class FailureLogger:
    """Writes failures to the failure store."""

    def __init__(self, store: FailureStore, metrics: WorkerMetrics | None = None) -> None:
        self._store = store
        self._metrics = metrics or WorkerMetrics()

    @activity.defn
    async def log_failure(self, failures: FailureReports) -> int:
        """Store failures, each as an object of its own; storing one again changes nothing. Returns how many.

        Raises:
            UnavailableError: The store is away.
        """
        slots = asyncio.Semaphore(PUTS_AT_ONCE)
        await asyncio.gather(*(self._put(report, slots) for report in failures.reports))
        return len(failures.reports)

    async def _put(self, report: FailureReport, slots: asyncio.Semaphore) -> None:
        async with slots:
            await self._store.put(report)
        self._metrics.failure(report.activity)
