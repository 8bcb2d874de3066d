"""What the cache counts by itself, brought to the meter of the Temporal runtime every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from temporalio.common import MetricCounter, MetricMeter

from cache.breaker import State
from cache.catalog import Catalog
from cache.redis_cache import RedisCache
from cache.source import MongoSource
from cache.watcher import Watcher

SAMPLE_SECONDS = 2.0

BREAKER_STATES = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
"""The further Redis is away, the higher."""

REDIS_ERRORS = ("failures", "late", "exhausted", "refused")
"""What `cache.guard.Counters` counts; values of the label `kind`."""


class CacheMetrics:
    """The metrics `datanadhi_cache_*`, but for the reads, which `activities.metrics` counts as they happen.

    Args:
        meter: Of the Temporal runtime.
        redis: The process's Redis client.
        source: The reader of MongoDB.
        catalog: What activities read through.
        watcher: None if this process has none.
    """

    def __init__(
        self, meter: MetricMeter, redis: RedisCache, source: MongoSource, catalog: Catalog, watcher: Watcher | None
    ) -> None:
        breaker, errors = redis.breaker, redis.counters
        self._redis = redis
        self._watcher = watcher
        self._rising: list[_Rising] = []
        self._state = meter.create_gauge("datanadhi_cache_breaker_state", "Redis is used: 0, being tried: 1, away: 2")
        self._rises(meter, "outages", "How often the breaker opened", lambda: breaker.outages)
        self._rises(meter, "calls_without_redis", "Calls that the breaker kept from Redis", lambda: breaker.bypassed)
        self._rises(meter, "source_reads", "Reads of MongoDB", lambda: source.reads)
        self._rises(meter, "fills_refused", "Values not stored: outdated meanwhile", lambda: catalog.fills_refused)
        failed = meter.create_counter("datanadhi_cache_redis_errors", "Operations in Redis that came to nothing")
        for kind in REDIS_ERRORS:
            counter = failed.with_additional_attributes({"kind": kind})
            self._rising.append(_Rising(counter, lambda kind=kind: getattr(errors, kind)))  # type: ignore[misc]
        if watcher is not None:
            self._watching = meter.create_gauge("datanadhi_cache_watcher_watching", "Whether this process watches: 1")
            self._lag = meter.create_gauge_float(
                "datanadhi_cache_watcher_lag_seconds", "How old the last change was when it had been dealt with", "s"
            )
            self._rises(meter, "watcher_events", "Changes in MongoDB dealt with", lambda: watcher.events)
            self._rises(
                meter, "full_invalidations", "How often everything was deleted", lambda: watcher.full_invalidations
            )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sample in the background for the length of a `with` block, and a last time at its end."""
        sampling = asyncio.create_task(self._run(), name="cache metrics")
        try:
            yield
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
            self.sample()

    def sample(self) -> None:
        """Bring the meter up to date."""
        self._state.set(BREAKER_STATES[self._redis.state])
        for rising in self._rising:
            rising.sample()
        if self._watcher is not None:
            self._watching.set(int(self._watcher.watching))
            self._lag.set(self._watcher.lag_seconds)

    def _rises(self, meter: MetricMeter, name: str, description: str, total: Callable[[], int]) -> None:
        self._rising.append(_Rising(meter.create_counter(f"datanadhi_cache_{name}", description), total))

    async def _run(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_SECONDS)


class _Rising:
    """A counter that follows a total kept elsewhere; it is there from the first sample, at nought."""

    def __init__(self, counter: MetricCounter, total: Callable[[], int]) -> None:
        self._counter = counter
        self._total = total
        self._seen = 0

    def sample(self) -> None:
        total = self._total()
        self._counter.add(total - self._seen)
        self._seen = total
