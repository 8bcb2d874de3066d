"""The worker's own counters, on the meter of the Temporal runtime, so that one endpoint serves both."""

from __future__ import annotations

from temporalio.common import MetricCounter, MetricHistogramFloat, MetricMeter

CACHE_READ_SECONDS = "datanadhi_cache_read_seconds"
CACHE_READ_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds, in seconds: from a hit on this machine to a read of MongoDB that used up its budget."""


class WorkerMetrics:
    """Counts records, deliveries, failures and cache reads.

    Label values are identifiers of ours (a destination's type, a key family, an outcome): never a tenant's id, a
    record's contents or a secret.
    """

    def __init__(self, meter: MetricMeter | None = None) -> None:
        meter = meter or MetricMeter.noop
        self._records = meter.create_counter("datanadhi_records", "Records run through their pipeline")
        self._deliveries = meter.create_counter("datanadhi_deliveries", "Deliveries by destination and outcome")
        self._failures = meter.create_counter("datanadhi_failures", "Failures stored, by the activity that failed")
        self._cache_reads = meter.create_counter("datanadhi_cache_reads", "Cache reads by key family and outcome")
        self._cache_seconds = meter.create_histogram_float(
            CACHE_READ_SECONDS, "Length of cache reads beyond this process's memory, by outcome"
        )
        self._labelled: dict[tuple[str, str], MetricCounter] = {}
        self._timed: dict[str, MetricHistogramFloat] = {}

    def records(self, count: int) -> None:
        """Count records that were run through their pipeline."""
        self._records.add(count)

    def delivery(self, destination: str, outcome: str, count: int = 1) -> None:
        """Count deliveries: outcome is `delivered`, `rejected` or `unavailable`."""
        self._deliveries.add(count, {"destination": destination, "outcome": outcome})

    def failure(self, activity: str) -> None:
        """Count a stored failure."""
        self._failures.add(1, {"activity": activity})

    def cache_read(self, family: str, outcome: str) -> None:
        """Count a cache read; called for every look-up, so its labelled counters are made once."""
        counter = self._labelled.get((family, outcome))
        if counter is None:
            counter = self._cache_reads.with_additional_attributes({"family": family, "outcome": outcome})
            self._labelled[family, outcome] = counter
        counter.add(1)

    def cache_read_seconds(self, _family: str, outcome: str, seconds: float) -> None:
        """Record how long a cache read took that this process's memory did not answer."""
        histogram = self._timed.get(outcome)
        if histogram is None:
            histogram = self._cache_seconds.with_additional_attributes({"outcome": outcome})
            self._timed[outcome] = histogram
        histogram.record(seconds)
