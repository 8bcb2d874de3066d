"""Leases: what was read before an invalidation is not stored after it."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from cache import keys, leases
from cache.leases import Lease, Present
from cache.redis_cache import RedisCache

KEY = keys.pipeline("1", "2", "3")


async def test_the_holder_of_the_lease_stores_its_value_once(redis: RedisCache, raw: Redis) -> None:
    lease = await leases.take(redis, KEY, Present.ANSWERS)
    assert lease is not None
    assert await leases.fill(redis, KEY, lease, b"value", 100) is True
    assert await raw.get(KEY) == b"value"
    assert 99 <= await raw.ttl(KEY) <= 100
    assert await leases.fill(redis, KEY, lease, b"again", 100) is False


@pytest.mark.parametrize("level", [KEY, keys.project("1", "2"), keys.organisation("1")])
async def test_an_invalidation_at_any_level_takes_the_lease_away(redis: RedisCache, raw: Redis, level: str) -> None:
    lease = await leases.take(redis, KEY, Present.ANSWERS)
    assert lease is not None
    assert await (redis.delete(KEY) if level == KEY else redis.delete_under(level))
    assert await leases.fill(redis, KEY, lease, b"old", 100) is False
    assert await raw.exists(KEY) == 0


async def test_a_fill_between_the_two_passes_of_a_deletion_is_deleted_by_the_second(
    redis: RedisCache, raw: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan need not return a key that was made while it ran; a lease that was there before it, it does."""
    lease = await leases.take(redis, KEY, Present.ANSWERS)
    assert lease is not None
    passes: list[str] = []
    original = redis._delete_beginning

    async def recorded(beginning: str) -> bool:
        passes.append(beginning)
        if len(passes) == 1:
            assert await leases.fill(redis, KEY, lease, b"old", 100) is True
        return await original(beginning)

    monkeypatch.setattr(redis, "_delete_beginning", recorded)
    assert await redis.delete_under(keys.organisation("1"))
    assert passes == ["{datanadhiserver:org:1:", "datanadhiserver:org:1:"]
    assert await raw.exists(KEY) == 0


async def test_the_last_to_ask_holds_the_lease(redis: RedisCache, raw: Redis) -> None:
    """It reads after the other did; and nobody waits for one that died."""
    earlier = await leases.take(redis, KEY, Present.ANSWERS)
    later = await leases.take(redis, KEY, Present.ANSWERS)
    assert await leases.fill(redis, KEY, earlier, b"earlier", 100) is False
    assert await leases.fill(redis, KEY, later, b"later", 100) is True
    assert await raw.get(KEY) == b"later"


async def test_what_a_server_stored_meanwhile_stays(redis: RedisCache, raw: Redis) -> None:
    lease = await leases.take(redis, KEY, Present.ANSWERS)
    await raw.set(KEY, "the server's")
    assert await leases.fill(redis, KEY, lease, b"ours", 100) is False
    assert await raw.get(KEY) == b"the server's"


async def test_a_value_that_is_there_after_all_is_the_answer(redis: RedisCache, raw: Redis) -> None:
    await raw.set(KEY, "value")
    lease = await leases.take(redis, KEY, Present.ANSWERS)
    assert lease is not None
    assert lease.value == b"value"
    assert await raw.exists(keys.lease(KEY)) == 0


async def test_a_value_of_no_use_is_deleted_and_replaced(redis: RedisCache, raw: Redis) -> None:
    await raw.set(KEY, "garbage")
    lease = await leases.take(redis, KEY, Present.GOES)
    assert await raw.exists(KEY) == 0
    assert await leases.fill(redis, KEY, lease, b"value", 100) is True


async def test_a_value_to_be_renewed_serves_others_until_it_is(redis: RedisCache, raw: Redis) -> None:
    await raw.set(KEY, "old")
    lease = await leases.take(redis, KEY, Present.STAYS)
    assert await raw.get(KEY) == b"old"
    assert await leases.fill(redis, KEY, lease, b"new", 100) is True
    assert await raw.get(KEY) == b"new"


async def test_a_key_of_another_type_is_replaced(redis: RedisCache, raw: Redis) -> None:
    await raw.lpush(KEY, "x")
    lease = await leases.take(redis, KEY, Present.ANSWERS)
    assert await leases.fill(redis, KEY, lease, b"value", 100) is True
    assert await raw.get(KEY) == b"value"


async def test_a_lease_ends_by_itself(redis: RedisCache, raw: Redis) -> None:
    lease = await leases.take(redis, KEY, Present.ANSWERS)
    assert 0 < await raw.pttl(keys.lease(KEY)) <= leases.LEASE_MILLISECONDS
    await raw.delete(keys.lease(KEY))
    assert await leases.fill(redis, KEY, lease, b"late", 100) is False


async def test_without_redis_nobody_can_tell(redis: RedisCache) -> None:
    await redis.aclose()
    assert await leases.take(redis, KEY, Present.ANSWERS) is None
    assert await leases.fill(redis, KEY, Lease("token", Present.ANSWERS), b"value", 100) is None
