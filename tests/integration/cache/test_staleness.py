"""A property: whatever is interleaved, an invalidation that has finished leaves no older value in Redis, ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis.asyncio import Redis

from cache import keys
from cache.catalog import Catalog
from cache.invalidation import Invalidator
from cache.redis_cache import RedisCache

PIPELINES = ("a", "b")
LEVELS = ("organisation", "project", "pipeline")
TURNS = 20
"""More turns of the event loop than lie between one command of a read and its next."""

pipelines = st.sampled_from(PIPELINES)
levels = st.sampled_from(("pipeline", "pipeline", *LEVELS))  # the lowest one leaves the most to go wrong
processes = st.integers(min_value=0, max_value=1)


class Truth:
    """MongoDB, with versions for documents; a read may be held up between reading and answering."""

    def __init__(self) -> None:
        self.versions = dict.fromkeys(PIPELINES, 0)
        self.held_up: list[asyncio.Event] = []
        self.hold_up = False

    async def pipeline(self, organisation_id: str, project_id: str, pipeline_id: str) -> dict[str, Any]:
        """The document as it is now, later."""
        ids = {"organisationId": organisation_id, "projectId": project_id, "pipelineId": pipeline_id}
        document = {**ids, "startNodeId": "start", "version": self.versions[pipeline_id]}
        if self.hold_up:
            let_go = asyncio.Event()
            self.held_up.append(let_go)
            await let_go.wait()
        return document

    def __getattr__(self, _name: str) -> Any:
        """The reads that this test has no use for."""
        return None


class Staleness(RuleBasedStateMachine):
    """Two processes, each with its client and catalog, over one Redis and one truth."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.truth = Truth()
        self.raw = Redis.from_url(url)
        self.redis = [RedisCache(url, timeout=10.0) for _ in range(2)]
        source: Any = self.truth
        self.catalogs = [Catalog(redis, source, sec_db="", near_ttl=0, negative_ttl=0) for redis in self.redis]
        self.reading: list[asyncio.Task[Any]] = []
        # The version that every later value in Redis has to have reached.
        self.invalidated = dict.fromkeys(PIPELINES, 0)
        self._run(self.raw.flushdb())

    def _run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(step)

    async def _settle(self) -> None:
        """Run until every read is either over or held up: nothing is asked of Redis any more, for many a turn."""
        quiet = 0
        while quiet < TURNS:
            asked = [operation for redis in self.redis for operation in redis._guard._budget.running]
            quiet = 0 if asked else quiet + 1
            await (asyncio.wait(asked) if asked else asyncio.sleep(0))
        self.reading = [task for task in self.reading if not task.done()]

    @rule(pipeline=pipelines)
    def edit(self, pipeline: str) -> None:
        """Somebody edits MongoDB; nobody has been told yet."""
        self.truth.versions[pipeline] += 1

    @rule(pipeline=pipelines, level=levels, process=processes, edited=st.booleans())
    def invalidate(self, pipeline: str, level: str, process: int, edited: bool) -> None:
        """One process invalidates, after an edit or for no reason; the other hears nothing of it."""
        self.truth.versions[pipeline] += edited
        reached = dict(self.truth.versions)
        identifiers = ("o", "p", pipeline)[: LEVELS.index(level) + 1]
        invalidator = Invalidator(self.redis[process], self.catalogs[process])
        assert self._run(getattr(invalidator, level)(*identifiers)) is True
        for name in PIPELINES:
            if level != "pipeline" or name == pipeline:
                self.invalidated[name] = reached[name]

    @rule(pipeline=pipelines, process=processes)
    def read(self, pipeline: str, process: int) -> None:
        """A read that nothing holds up; what it gives is as new as the last invalidation, if it read for itself."""
        catalog = self.catalogs[process]
        if (keys.pipeline("o", "p", pipeline), False) in catalog._reader._flights:
            return
        document = self._run(catalog.pipeline("o", "p", pipeline))
        assert document["version"] >= self.invalidated[pipeline]

    @rule(pipeline=pipelines, process=processes)
    def begin_slow_read(self, pipeline: str, process: int) -> None:
        """A read whose answer from MongoDB is under way for a while, if Redis does not have it."""

        async def begin() -> None:
            self.truth.hold_up = True
            self.reading.append(asyncio.create_task(self.catalogs[process].pipeline("o", "p", pipeline)))
            await self._settle()
            self.truth.hold_up = False

        self._run(begin())

    @precondition(lambda self: self.truth.held_up)
    @rule(data=st.data())
    def end_slow_read(self, data: st.DataObject) -> None:
        """The answer arrives, and is stored if that is still right."""
        let_go = self.truth.held_up.pop(data.draw(st.integers(0, len(self.truth.held_up) - 1)))

        async def end() -> None:
            let_go.set()
            await self._settle()

        self._run(end())

    @rule(pipeline=pipelines)
    def lease_expires(self, pipeline: str) -> None:
        """Its time is up."""
        self._run(self.raw.delete(keys.lease(keys.pipeline("o", "p", pipeline))))

    @rule(pipeline=pipelines)
    def value_expires(self, pipeline: str) -> None:
        """Its time is up, or Redis needed the memory."""
        self._run(self.raw.delete(keys.pipeline("o", "p", pipeline)))

    @rule()
    def redis_restarts(self) -> None:
        """It comes back empty, not knowing any script."""
        self._run(self.raw.flushall())
        self._run(self.raw.script_flush())

    @invariant()
    def redis_holds_nothing_older_than_the_last_invalidation(self) -> None:
        """The promise."""
        for pipeline, version in self.invalidated.items():
            cached = self._run(self.raw.get(keys.pipeline("o", "p", pipeline)))
            assert cached is None or orjson.loads(cached)["version"] >= version

    def teardown(self) -> None:
        """Let everything end; the promise holds then, too."""

        async def end_reads() -> None:
            for let_go in self.truth.held_up:
                let_go.set()
            await asyncio.gather(*self.reading)

        async def close() -> None:
            for catalog, redis in zip(self.catalogs, self.redis, strict=True):
                await catalog.aclose()
                await redis.aclose()
            await self.raw.aclose()

        try:
            self._run(end_reads())
            self.redis_holds_nothing_older_than_the_last_invalidation()
        finally:
            self._run(close())
            self.loop.close()


def test_no_interleaving_leaves_an_older_value_in_redis(redis_url: str) -> None:
    machine: Callable[[], Staleness] = lambda: Staleness(redis_url)  # noqa: E731 what hypothesis calls for each run
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=300, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
