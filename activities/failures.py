"""The activity that stores failures."""

from __future__ import annotations

from temporalio import activity

from activities.contracts import FailureReport
from activities.failure_store import FailureStore
from activities.metrics import WorkerMetrics


class FailureLogger:
    """Writes failures to the failure store."""

    def __init__(self, store: FailureStore, metrics: WorkerMetrics | None = None) -> None:
        self._store = store
        self._metrics = metrics or WorkerMetrics()

    @activity.defn
    async def log_failure(self, report: FailureReport) -> str:
        """Store a failure; storing it again changes nothing. Returns its key.

        Raises:
            UnavailableError: The store is away.
        """
        key = await self._store.put(report)
        self._metrics.failure(report.activity)
        return key
