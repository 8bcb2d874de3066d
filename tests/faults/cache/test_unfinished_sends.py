"""A Redis that stops reading in the middle of a large value: nobody waits for it, and no connection is lost."""

from __future__ import annotations

import asyncio
import signal

from cache.redis_cache import RedisCache
from workers.embedded.servers import Server

BUDGET = 0.25
LARGE = b"x" * 16_000_000
"""More than all buffers on the way take at once."""


async def _connected(server: Server) -> RedisCache:
    redis = RedisCache.configure(f"redis://{server.address}/0", timeout=BUDGET, first_cooldown=0.05)
    assert await redis.safe_set("key", "value", 100)
    return redis


async def _well_again(redis: RedisCache) -> None:
    if redis.breaker._recovery is not None:
        await redis.breaker._recovery
    # What was given up may arrive after all, as with every command that was not answered.
    assert await redis.safe_get("key") in {b"value", LARGE}


async def test_a_value_that_cannot_be_sent_is_given_up_within_the_budget(own_valkey: Server) -> None:
    redis = await _connected(own_valkey)
    own_valkey.send_signal(signal.SIGSTOP)
    async with asyncio.timeout(20 * BUDGET):  # wide, for busy machines; without a bound it is for ever
        while redis.state == "closed":  # a machine that stalls excuses Redis for a moment
            assert await redis.safe_set("key", LARGE, 100) is False
    own_valkey.send_signal(signal.SIGCONT)
    await _well_again(redis)


async def test_a_caller_who_leaves_in_the_middle_of_a_send_takes_no_connection_along(own_valkey: Server) -> None:
    redis = await _connected(own_valkey)
    own_valkey.send_signal(signal.SIGSTOP)
    caller = asyncio.create_task(redis.safe_set("key", LARGE, 100))
    pool, budget = redis._guard._pool, redis._guard._budget
    while not pool._in_use_connections:  # noqa: ASYNC110 there is no event for it
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    async with asyncio.timeout(20 * BUDGET):  # as above
        while budget.running:
            await budget.drain()
    assert not pool._in_use_connections
    own_valkey.send_signal(signal.SIGCONT)
    await _well_again(redis)
