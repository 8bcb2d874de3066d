"""Reads what is cached: from this process's memory, else from Redis, else from MongoDB, with one loader per key.

near cache ──miss──> Redis ──miss──> lease, MongoDB, fill ──unavailable──> last known value, for a bounded time

Whoever asks, a key is loaded once at a time. What is loaded reaches every caller, Redis and this process's memory.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from cache import leases
from cache.breaker import State
from cache.flights import Flight, Flights
from cache.kind import Identifiers, Kind, Value
from cache.leases import Lease, Present
from cache.near import NearCache
from cache.redis_cache import RedisCache
from cache.source import SourceUnavailableError

logger = logging.getLogger(__name__)

MISSING = b""
"""What the near cache holds for something that is not there; no value is empty."""

STALE_PATIENCE_SECONDS = 0.05
"""How long a caller waits for MongoDB while it is known to be away and there is a last known value to be had."""

TTL_JITTER = 0.1
"""By how much a TTL may be shorter than its table says: what was filled together must not expire together."""

GENERATIONS = 1024

Observe = Callable[[str, str], None]
ObserveSeconds = Callable[[str, str, float], None]


class ReadThrough:
    """The road that every cached read takes.

    Args:
        redis: The process's Redis client.
        near_ttl: Seconds that this process remembers a value by itself; 0: not at all.
        negative_ttl: Seconds that it remembers that something is not there.
        stale_max_seconds: How long the last known value may serve while MongoDB is away.
        observe: Told of each read: the family's name and near, hit, miss, bypass, stale or negative.
        observe_seconds: Told the same of each read that memory did not answer at once, and the seconds it took.
        clock: Seconds, monotonic.

    Attributes:
        fills_refused: How many values were not stored because an invalidation came between reading and storing.
    """

    def __init__(
        self,
        redis: RedisCache,
        *,
        near_ttl: float,
        negative_ttl: float,
        stale_max_seconds: float,
        observe: Observe,
        observe_seconds: ObserveSeconds | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fills_refused = 0
        self._redis = redis
        self._near_ttl = near_ttl
        self._negative_ttl = negative_ttl
        self._stale_max_seconds = stale_max_seconds
        self._observe = observe
        self._observe_seconds = observe_seconds
        self._clock = clock
        self._near = NearCache(clock=clock)
        self._last_known = NearCache(clock=clock)
        self._flights = Flights()
        self._source_is_away = False
        self._served_stale: set[str] = set()
        # Counts invalidations, of levels and of keys (a few keys share a count): what was read before one is not
        # remembered after it.
        self._levels_forgotten = 0
        self._keys_forgotten = [0] * GENERATIONS

    async def value(self, kind: Kind[Value], key: str, identifiers: Identifiers) -> Value | None:
        """The value of `key`, new for every caller; None if it is not there.

        Raises:
            SourceUnavailableError: Neither Redis nor MongoDB nor memory has it.
        """
        content = self._near.get(key)
        if content is None:
            found = await self._beyond_near(kind, key, identifiers)
            return found[1]
        self._observe(kind.family.label, "near" if content else "negative")
        return kind.parse(content, identifiers) if content else None

    async def content(self, kind: Kind[Any], key: str, identifiers: Identifiers) -> bytes | None:
        """The bytes of `key`, the same object as long as this process remembers it; None if it is not there.

        Raises:
            SourceUnavailableError: As for `value`.
        """
        content = self._near.get(key)
        if content is None:
            found = await self._beyond_near(kind, key, identifiers)
            return found[0]
        self._observe(kind.family.label, "near" if content else "negative")
        return content or None

    async def fresh(self, kind: Kind[Value], key: str, identifiers: Identifiers) -> Value | None:
        """The value as MongoDB has it now, which every cache is given as well; None if it is not there.

        Raises:
            SourceUnavailableError: MongoDB cannot be read; a last known value would be what the caller has already.
        """
        begun = self._clock()
        if (key, True) not in self._flights:
            self._keys_forgotten[hash(key) % GENERATIONS] += 1
            self._near.discard(key)
        try:
            content = await asyncio.shield(self._flight(kind, key, identifiers, Present.STAYS, refresh=True))
        finally:
            self._tell(kind, "miss", begun)
        return None if content is None else kind.parse(content, identifiers)

    def forget(self, key: str) -> None:
        """Forget `key`; what was read of it before now will not be remembered."""
        self._keys_forgotten[hash(key) % GENERATIONS] += 1
        self._near.discard(key)
        self._last_known.discard(key)
        self._flights.forget(key)

    def forget_under(self, level: str) -> None:
        """Forget `level` and all below it; nothing that was read before now will be remembered."""
        self._levels_forgotten += 1
        self._near.discard_under(level)
        self._last_known.discard_under(level)
        self._flights.forget_under(level)

    async def aclose(self) -> None:
        """End the loads that are under way."""
        await self._flights.aclose()

    async def _beyond_near(
        self, kind: Kind[Value], key: str, identifiers: Identifiers
    ) -> tuple[bytes | None, Value | None]:
        begun, generation = self._clock(), self._generation(key)
        stored = await self._redis.safe_get(key)
        believed = None if stored is None else kind.believed(key, stored, identifiers)
        if believed is not None:
            self._tell(kind, "hit", begun)
            self._remember(key, believed[0], generation, self._near_ttl)
            return believed
        # While Redis kept this caller waiting, a load that others share may have come and gone.
        loaded = self._near.get(key)
        outcome = "near" if loaded else "negative"
        try:
            if loaded is None:
                outcome = "miss" if self._redis.state is State.CLOSED else "bypass"
                present = Present.ANSWERS if stored is None else Present.GOES
                loaded, outcome = await self._load_shared(kind, key, identifiers, present, outcome)
        finally:
            self._tell(kind, outcome, begun)
        return (loaded, kind.parse(loaded, identifiers)) if loaded else (None, None)

    def _tell(self, kind: Kind[Any], outcome: str, begun: float) -> None:
        self._observe(kind.family.label, outcome)
        if self._observe_seconds is not None:
            self._observe_seconds(kind.family.label, outcome, self._clock() - begun)

    async def _load_shared(
        self, kind: Kind[Any], key: str, identifiers: Identifiers, present: Present, outcome: str
    ) -> tuple[bytes | None, str]:
        """What the load of `key` gives, else its last known value; and the outcome that is."""
        last_known = self._last_known.get(key) if kind.may_be_stale else None
        flight = self._flight(kind, key, identifiers, present)
        if last_known is not None and self._source_is_away:
            await asyncio.wait((flight,), timeout=STALE_PATIENCE_SECONDS)
            if not flight.done():
                return self._stale(key, last_known), "stale"
        try:
            return await asyncio.shield(flight), outcome
        except SourceUnavailableError:
            if last_known is None:
                raise
            return self._stale(key, last_known), "stale"

    def _stale(self, key: str, last_known: bytes) -> bytes:
        if key not in self._served_stale:
            self._served_stale.add(key)
            logger.warning("MongoDB cannot be read: serving the last known value of %s", key)
        return last_known

    def _flight(
        self, kind: Kind[Any], key: str, identifiers: Identifiers, present: Present, *, refresh: bool = False
    ) -> Flight:
        return self._flights.join((key, refresh), lambda: self._load(kind, key, identifiers, present))

    async def _load(self, kind: Kind[Any], key: str, identifiers: Identifiers, present: Present) -> bytes | None:
        generation = self._generation(key)
        lease = await leases.take(self._redis, key, present)
        if lease is not None and lease.value is not None:
            believed = kind.believed(key, lease.value, identifiers)
            if believed is not None:
                self._remember(key, believed[0], generation, self._near_ttl)
                return believed[0]
        content = await self._from_source(kind, identifiers)
        if content is None:
            self._last_known.discard(key)
            self._remember(key, MISSING, generation, self._negative_ttl)
            return None
        filled = None if lease is None else await self._fill(kind, key, lease, content)
        if filled is not False:
            settled = kind.settled(kind.parse(content, identifiers))
            self._remember(key, content, generation, self._near_ttl if settled else self._negative_ttl)
        return content

    async def _from_source(self, kind: Kind[Any], identifiers: Identifiers) -> bytes | None:
        try:
            content = await kind.load(*identifiers)
        except SourceUnavailableError:
            self._source_is_away = True
            raise
        if self._source_is_away:
            self._source_is_away = False
            logger.info("MongoDB answers again; %d values were served stale", len(self._served_stale))
            self._served_stale.clear()
        return content

    async def _fill(self, kind: Kind[Any], key: str, lease: Lease, content: bytes) -> bool | None:
        """Store it if the lease stands; False if it does not: an invalidation came in between, the value may be old."""
        jitter = 1 - TTL_JITTER * random.random()  # noqa: S311 jitter is not cryptography
        ttl_seconds = int(kind.ttl_seconds(content) * jitter)
        filled = await leases.fill(self._redis, key, lease, kind.to_store(key, content), ttl_seconds)
        if filled is False:
            self.fills_refused += 1
        return filled

    def _generation(self, key: str) -> tuple[int, int]:
        return self._levels_forgotten, self._keys_forgotten[hash(key) % GENERATIONS]

    def _remember(self, key: str, content: bytes, generation: tuple[int, int], ttl_seconds: float) -> None:
        if generation == self._generation(key):
            self._near.put(key, content, ttl_seconds)
            self._last_known.put(key, content, self._stale_max_seconds if content else 0)
