"""The watcher: what changes in MongoDB, whoever changes it, is out of Redis at once. One worker watches for all.

wait for Redis ──> take the lock ──> open the stream at the token ──> event, delete, advance the token, next event ...
      ^                                                                      │
      └──── let the lock go, pause <──── anything fails: a term is over <────┘

Every failure ends the term, and the next term, of this worker or another, goes on from the token in Redis. The token
advances only after the deletes, so nothing is missed: not while Redis or MongoDB was away, nor while nobody watched.
Where there is no token, or MongoDB cannot go on from it, everything is invalidated once. API keys and what other
processes remember by themselves end with their own time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from pymongo import AsyncMongoClient

from cache import change_stream
from cache.breaker import State
from cache.change_stream import Batch
from cache.changes import EVERYTHING, Event, Level, Outdated, combined, outdated_by
from cache.invalidation import Invalidator
from cache.pauses import Pauses, jittered
from cache.redis_cache import RedisCache
from cache.watch_lock import WatchLock

logger = logging.getLogger(__name__)

LOCK_SECONDS = 8.0
"""How long the lock outlives a holder that died. It is asked for eight times as often: taken over within 10 s."""

ATTEMPTS_A_LIFETIME = 8

REDIS_LOOK_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
UNSUPPORTED_PAUSE_SECONDS = 300.0
"""A server without change streams may be made a replica set some day."""

CONNECT_MILLISECONDS = 3_000
HEARTBEAT_MILLISECONDS = 5_000
"""How often the driver asks the servers whether they are there; both together are how long a silent one is believed."""


class _RedisAwayError(Exception):
    """Redis cannot delete or store, so that the token must not advance."""


class _LockLostError(Exception):
    """Somebody else watches, or Redis is not what it was."""


class Watcher:
    """Keeps Redis true to MongoDB, as far as MongoDB tells of its changes: a replica set or a sharded cluster does.

    Args:
        redis: The process's Redis client.
        mongo_url: `mongodb://` or `mongodb+srv://`; the client is the watcher's own, as its reads wait for events.
        database: Name of the database.
        invalidator: Deletes what changed.
        lock_seconds: How long the lock outlives a holder that died.

    Attributes:
        watching: Whether this process watches at the moment.
        events: How many changes this process has dealt with.
        full_invalidations: How many times it invalidated everything.
        lag_seconds: How old the last change was when it had been dealt with; whole seconds, as MongoDB counts.
    """

    def __init__(
        self,
        redis: RedisCache,
        mongo_url: str,
        database: str,
        invalidator: Invalidator,
        *,
        lock_seconds: float = LOCK_SECONDS,
    ) -> None:
        self.watching = False
        self.events = 0
        self.full_invalidations = 0
        self.lag_seconds = 0.0
        self._redis = redis
        self._delete = _deletes(invalidator)
        self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            mongo_url,
            serverSelectionTimeoutMS=CONNECT_MILLISECONDS,
            connectTimeoutMS=CONNECT_MILLISECONDS,
            heartbeatFrequencyMS=HEARTBEAT_MILLISECONDS,
            # No socketTimeoutMS: to find a token in a busy server's history may take minutes.
            appname="datanadhi-watcher",
        )
        self._database = self._client.get_database(database)
        self._lock = WatchLock(redis, database, seconds=lock_seconds)
        self._attempt_seconds = lock_seconds / ATTEMPTS_A_LIFETIME
        self._pauses = Pauses(first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
        self._progressed = False
        self._refused_token: bytes | None = None
        self._said = ""
        self._without_images: set[str] = set()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Watcher]:
        """Watch in the background for the length of a `with` block; once."""
        task = asyncio.create_task(self.run(), name="watcher")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def run(self) -> None:
        """Watch until cancelled, whatever fails; then let the lock go and close the client. Once."""
        try:
            while True:
                if await self._elected():
                    await asyncio.sleep(await self._serve())
        finally:
            await change_stream.let_go(self._client.close())

    async def until(self, condition: Callable[[Watcher], bool]) -> None:
        """Wait until `condition` of this watcher holds."""
        while not condition(self):
            await self._changed.wait()

    async def _elected(self) -> bool:
        """Whether this worker is the one to watch; False after a while if not."""
        if self._redis.state is not State.CLOSED:
            await asyncio.sleep(REDIS_LOOK_SECONDS)
            return False
        if await self._lock.acquire():
            return True
        await asyncio.sleep(jittered(self._attempt_seconds))
        return False

    async def _serve(self) -> float:
        """Watch for one term; how many seconds to pause after it."""
        self._progressed = False
        try:
            async with self._lock.renewed():
                await self._watch()
        except Exception as error:  # noqa: BLE001 whatever it is: the worker works without, and the next term tries again
            return self._failed(error)
        finally:
            self._now(watching=False)
            await self._lock.release()
        return self._pauses.next()

    async def _watch(self) -> None:
        """Deal with changes from where the token says, until the stream ends or something fails."""
        token = b"" if self._lock.token == self._refused_token else self._lock.token
        async with change_stream.opened(self._database, token) as stream:
            if not token:
                # Once the stream is open: from here on it tells of every change.
                await self._start_anew()
                await self._advance(change_stream.token_of(stream))
            self._say("watching", logging.INFO, "watching MongoDB for changes (term %d)", self._lock.term)
            self._now(watching=True)
            async with aclosing(change_stream.batches(stream)) as arriving:
                async for batch in arriving:
                    await self._deal_with(batch)

    async def _start_anew(self) -> None:
        why = "MongoDB cannot go on from the resume token" if self._lock.token else "there is no resume token"
        logger.warning("%s, so what was missed is not known: everything cached is invalidated once", why)
        await self._invalidate({EVERYTHING})

    async def _deal_with(self, batch: Batch) -> None:
        outdated = combined(change for event in batch.events for change in outdated_by(event))
        if EVERYTHING in outdated:
            self._explain(batch.events)
        await self._invalidate(outdated)
        await self._advance(batch.token)
        if batch.events:
            self.lag_seconds = max(0.0, time.time() - batch.events[-1]["clusterTime"].time)
            self.events += len(batch.events)
            self._now(watching=True)

    async def _invalidate(self, outdated: Iterable[Outdated]) -> None:
        for item in outdated:
            if not await self._delete[item.level](item):
                raise _RedisAwayError
            self.full_invalidations += item == EVERYTHING

    async def _advance(self, token: bytes) -> None:
        advanced = await self._lock.advance(token)
        if advanced is None:
            raise _RedisAwayError
        if not advanced:
            raise _LockLostError
        self._progressed = True
        self._refused_token = None
        self._pauses.reset()

    def _failed(self, error: Exception) -> float:
        """Say what failed, if that is news; how many seconds to pause."""
        if isinstance(error, _RedisAwayError):
            self._say("waiting", logging.INFO, "watching MongoDB no longer: Redis cannot follow; later, from there on")
        elif isinstance(error, _LockLostError):
            self._say("waiting", logging.INFO, "watching MongoDB no longer: lost the lock of term %d", self._lock.term)
        elif change_stream.is_unsupported(error):
            text = "MongoDB has no change streams (%s): what is cached lives until its TTL ends; a replica set has them"
            self._say("unsupported", logging.WARNING, text, change_stream.named(error))
            return UNSUPPORTED_PAUSE_SECONDS
        else:
            if change_stream.is_refusal(error) and not self._progressed:
                self._refused_token = self._lock.token
            text = "MongoDB cannot be watched (%s): what is cached may be outdated until it can, or until its TTL ends"
            self._say("away", logging.WARNING, text, change_stream.named(error))
        return self._pauses.next()

    def _explain(self, events: Iterable[Event]) -> None:
        """Say, once a collection, that deletes there cost the whole cache, and what helps."""
        deletes = (event for event in events if event["operationType"] == "delete" and EVERYTHING in outdated_by(event))
        for collection in {event["ns"]["coll"] for event in deletes} - self._without_images:
            self._without_images.add(collection)
            text = "a delete in %s invalidates everything cached, for want of pre-images (changeStreamPreAndPostImages)"
            logger.warning(text, collection)

    def _say(self, state: str, level: int, text: str, *arguments: Any) -> None:
        """Log a change of state, once."""
        if state != self._said:
            self._said = state
            logger.log(level, text, *arguments)

    def _now(self, *, watching: bool) -> None:
        """Tell those who wait that something has changed."""
        self.watching = watching
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _deletes(invalidator: Invalidator) -> dict[Level, Callable[[Outdated], Awaitable[bool]]]:
    """How each level is deleted, each telling whether it is known to be done."""
    return {
        Level.EVERYTHING: lambda _: invalidator.everything(),
        Level.ORGANISATION: lambda item: invalidator.organisation(*item.identifiers),
        Level.PROJECT: lambda item: invalidator.project(*item.identifiers),
        Level.PIPELINE: lambda item: invalidator.pipeline(*item.identifiers, pipeline_code=item.pipeline_code),
        Level.WORKFLOW: lambda item: invalidator.workflow(*item.identifiers),
        Level.TARGET: lambda item: invalidator.target(*item.identifiers),
        Level.CONNECTOR: lambda item: invalidator.connector(*item.identifiers),
    }
