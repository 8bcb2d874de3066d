"""The right to watch: one holder at a time, and nothing that a former one does has any effect."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from cache import keys
from cache.redis_cache import RedisCache
from cache.watch_lock import WatchLock

LONG = 60.0


def _lock(redis: RedisCache, *, seconds: float = LONG) -> WatchLock:
    return WatchLock(redis, "d", seconds=seconds)


async def test_one_holds_it_at_a_time(redis: RedisCache) -> None:
    first, second = _lock(redis), _lock(redis)
    assert await first.acquire()
    assert not await second.acquire()
    await first.release()
    assert await second.acquire()


async def test_two_databases_are_watched_by_themselves(redis: RedisCache) -> None:
    assert await WatchLock(redis, "d", seconds=LONG).acquire()
    assert await WatchLock(redis, "e", seconds=LONG).acquire()


async def test_it_can_be_taken_again_where_it_could_not_be_released(redis: RedisCache) -> None:
    """Redis was away then; waiting until it expires would be waiting for oneself."""
    lock = _lock(redis)
    assert await lock.acquire()
    assert await lock.acquire()
    assert lock.term == 2


async def test_each_term_has_a_higher_number(redis: RedisCache) -> None:
    first, second = _lock(redis), _lock(redis)
    for lock, number in ((first, 1), (second, 2), (first, 3)):
        assert await lock.acquire()
        assert lock.term == number
        await lock.release()


async def test_the_token_is_handed_on(redis: RedisCache) -> None:
    first, second = _lock(redis), _lock(redis)
    await first.acquire()
    assert first.token == b""
    assert await first.advance(b"\x00token\xff") is True
    assert first.token == b"\x00token\xff"
    await first.release()
    await second.acquire()
    assert second.token == b"\x00token\xff"


async def test_a_former_holder_changes_nothing(redis: RedisCache, raw: Redis) -> None:
    """It slept through its time: it neither advances the token, nor renews, nor releases what is another's."""
    former, holder = _lock(redis), _lock(redis)
    await former.acquire()
    await former.advance(b"a")
    await raw.delete(keys.watch_lock("d"))
    await holder.acquire()
    await holder.advance(b"b")
    assert await former.advance(b"c") is False
    await former.release()
    assert await raw.hget(keys.watch_state("d"), "token") == b"b"
    assert await holder.advance(b"d") is True


async def test_a_former_term_of_the_same_worker_changes_nothing(redis: RedisCache) -> None:
    """What it asked for late, Redis does late."""
    lock = _lock(redis)
    await lock.acquire()
    late = lock._held
    await lock.acquire()
    assert lock._held != late
    lock.term = 1
    assert await lock.advance(b"x") is False
    await lock.release()
    lock.term = 2
    assert await lock.advance(b"x") is True


async def test_a_token_that_was_changed_says_that_the_data_is_not_what_it_was(redis: RedisCache, raw: Redis) -> None:
    """Redis came back from a snapshot, or was emptied, so fast that the lock stands."""
    lock = _lock(redis)
    await lock.acquire()
    await lock.advance(b"newer")
    await raw.hset(keys.watch_state("d"), "token", b"older")
    assert await lock.advance(b"newest") is False
    assert await raw.hget(keys.watch_state("d"), "token") == b"older"
    await raw.delete(keys.watch_state("d"))
    assert await lock.advance(b"newest") is False
    assert await lock.acquire()
    assert lock.token == b""


async def test_it_expires_unless_it_is_renewed(redis: RedisCache, raw: Redis) -> None:
    lock = _lock(redis, seconds=0.4)
    await lock.acquire()
    async with lock.renewed():
        await asyncio.sleep(1)
        assert await raw.exists(keys.watch_lock("d"))
    async with asyncio.timeout(10):
        while await raw.exists(keys.watch_lock("d")):  # noqa: ASYNC110 Redis announces nothing
            await asyncio.sleep(0.05)


async def test_to_advance_renews_it(redis: RedisCache, raw: Redis) -> None:
    lock = _lock(redis)
    await lock.acquire()
    await raw.pexpire(keys.watch_lock("d"), 5000)
    await lock.advance(b"")
    assert await raw.pttl(keys.watch_lock("d")) > 5000


async def test_without_redis_nobody_can_tell(redis: RedisCache) -> None:
    lock = _lock(redis)
    await lock.acquire()
    await redis.aclose()
    assert await lock.advance(b"x") is None
    assert not await lock.acquire()
    await lock.release()


async def test_it_lives_in_one_slot_of_a_cluster() -> None:
    """Its scripts use both keys."""
    tags = {key[key.index("{") : key.index("}")] for key in (keys.watch_lock("d"), keys.watch_state("d"))}
    assert len(tags) == 1
    assert not any(key.startswith(f"{keys.ORGANISATIONS}:") for key in (keys.watch_lock("d"), keys.watch_state("d")))
