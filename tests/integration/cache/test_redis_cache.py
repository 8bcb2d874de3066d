"""The Redis client against a real server: what it does, on how many connections, and that nothing is left open."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from cache import keys
from cache.connections import IDLE_SECONDS, MOST_CONNECTIONS
from cache.redis_cache import RedisCache, Script
from workers.embedded.servers import running, start_valkey


async def test_what_was_set_is_got_until_it_is_deleted(redis: RedisCache, raw: Redis) -> None:
    assert await redis.safe_get("key") is None
    assert await redis.safe_set("key", "größe", 100)
    assert await redis.safe_get("key") == "größe".encode()
    assert 99 <= await raw.ttl("key") <= 100
    assert await redis.delete("key")
    assert await redis.safe_get("key") is None


async def test_many_are_got_in_order_and_the_wrong_type_is_a_miss(redis: RedisCache, raw: Redis) -> None:
    await raw.mset({"a": "1", "c": "3"})
    await raw.lpush("list", "x")
    assert await redis.safe_get_many(["a", "b", "c", "list"]) == [b"1", None, b"3", None]
    assert await redis.safe_get_many([]) == []
    assert await redis.safe_get("list") is None


async def test_a_script_runs_also_on_a_server_that_has_never_seen_it(redis: RedisCache, raw: Redis) -> None:
    script = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    await raw.script_flush()
    assert await redis.run(script, ("counter",), (5,)) == 5
    assert await redis.run(script, ("counter",), (5,)) == 10


async def test_values_that_redis_cannot_take_are_refused_and_open_nothing(redis: RedisCache) -> None:
    assert not await redis.safe_set("key", {"not": "bytes"}, 100)  # type: ignore[arg-type]
    assert not await redis.safe_set("key", "value", 0)
    assert not await redis.safe_set("\ud800", "value", 100)
    assert redis.state == "closed"
    assert redis.counters.refused == 3


async def test_there_is_one_instance_a_process(redis: RedisCache, redis_url: str) -> None:
    assert RedisCache.instance() is redis
    with pytest.raises(RuntimeError, match="configured already"):
        RedisCache.configure(redis_url)
    await RedisCache.reset()
    with pytest.raises(RuntimeError, match="not configured"):
        RedisCache.instance()
    assert await redis.safe_get("key") is None, "closed, it gives nothing and raises nothing"


async def test_however_many_callers_there_is_one_bounded_pool(redis: RedisCache, raw: Redis) -> None:
    await raw.set("key", "value")
    answers = await asyncio.gather(*(redis.safe_get("key") for _ in range(1000)))
    assert answers.count(b"value") + redis.counters.exhausted == 1000
    ours = [client for client in await raw.client_list() if client["name"] == "datanadhi-worker"]
    assert 1 <= len(ours) <= MOST_CONNECTIONS
    await asyncio.gather(*(redis.safe_get("key") for _ in range(1000)))
    assert len([client for client in await raw.client_list() if client["name"] == "datanadhi-worker"]) == len(ours)


async def test_callers_who_are_cancelled_lose_no_connection(redis: RedisCache, raw: Redis) -> None:
    await raw.set("key", "value")
    for _ in range(5):
        callers = [asyncio.create_task(redis.safe_get("key")) for _ in range(100)]
        await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    pool = redis._guard._pool
    await redis._guard._budget.drain()
    assert not pool._in_use_connections
    assert len(pool._available_connections) <= MOST_CONNECTIONS
    assert await redis.safe_get("key") == b"value"
    assert redis.state == "closed"


async def _pings(raw: Redis) -> int:
    statistics = await raw.info("commandstats")
    return int(statistics.get("cmdstat_ping", {}).get("calls", 0))


async def test_a_connection_is_asked_when_it_is_made_and_when_it_has_idled_but_not_before_every_call(
    redis: RedisCache, raw: Redis
) -> None:
    await raw.config_resetstat()
    for _ in range(10):
        await redis.safe_get("key")
    assert await _pings(raw) == 1
    pool = redis._guard._pool
    pool._last_used = {connection: used - IDLE_SECONDS for connection, used in pool._last_used.items()}
    await redis.safe_get("key")
    assert await _pings(raw) == 2


async def test_a_connection_that_died_unnoticed_is_replaced_within_the_call(redis: RedisCache, raw: Redis) -> None:
    await raw.set("key", "value")
    await redis.safe_get("key")
    await raw.client_kill_filter(_type="normal", skipme=True)
    connection = redis._guard._pool._available_connections[0]
    await asyncio.wait_for(connection._reader.read(), 5)  # the end has arrived here, too
    assert await redis.safe_get("key") == b"value"
    assert redis.breaker.outages == 0


async def test_an_answer_that_nobody_read_is_not_given_to_the_next_caller(redis: RedisCache, raw: Redis) -> None:
    await raw.mset({"mine": "mine", "theirs": "theirs"})
    await redis.safe_get("mine")
    connection = redis._guard._pool._available_connections[0]
    await connection.send_command("GET", "theirs")
    if not await connection.can_read():
        await connection._reader._wait_for_data("test")  # now it is here, and unread
    assert await redis.safe_get("mine") == b"mine"


async def test_a_unix_socket_and_a_password_serve_as_well(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    options = ("--unixsocket", str(path), "--requirepass", "p@ss:w/rd")
    async with running(start_valkey(tmp_path, options=options)) as server:
        for url in (
            f"unix://:p%40ss%3Aw%2Frd@{path}?db=3",
            f"redis://default:p%40ss%3Aw%2Frd@{server.address}/3?decode_responses=true&socket_timeout=60",
        ):
            redis = RedisCache.configure(url)
            assert await redis.safe_set("key", "value", 100)
            assert await redis.safe_get("key") == b"value"
            assert repr(redis) in {f"<RedisCache {path} closed>", f"<RedisCache {server.address} closed>"}
            await RedisCache.reset()


@pytest.mark.parametrize(
    "url", ["http://:planted@redis", "redis://:planted/x@redis:6379", "planted", "redis://:pl[anted@redis:1"]
)
def test_an_address_that_cannot_be_understood_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="address of Redis") as refusal:
        RedisCache.configure(url)
    error: BaseException | None = refusal.value
    while error is not None:
        assert "pl" not in str(error)
        error = None if error.__suppress_context__ else error.__context__


async def test_a_level_goes_with_all_below_it_and_nothing_beside_it(redis: RedisCache, raw: Redis) -> None:
    inside = [keys.organisation("1"), keys.project("1", "2"), keys.workflow("1", "2", "3"), keys.target(*"1234")]
    outside = [keys.organisation("10"), keys.project("10", "2"), "other:" + keys.project("1", "2"), keys.api_key("1")]
    await raw.mset(dict.fromkeys([*inside, *outside, *map(keys.lease, inside + outside)], "x"))
    await raw.mset({f"{keys.project('1', '2')}:pl:{number}": "x" for number in range(2500)})
    assert await redis.delete_under(keys.organisation("1"))
    left = {name.decode() for name in await raw.keys("*")}
    assert left == {*outside, *map(keys.lease, outside)}


async def test_a_level_is_taken_by_its_letters_also_where_they_are_glob_characters(
    redis: RedisCache, raw: Redis
) -> None:
    """The keys' own functions let none through; the client does not rely on that."""
    await raw.mset(dict.fromkeys(["org:*:a", "org:1:a", "org:[1]:a", "org:1\\:a"], "x"))
    for level in ("org:*", "org:[1]", "org:1\\"):
        assert await redis.delete_under(level)
    assert await raw.keys("*") == [b"org:1:a"]
    statistics = await raw.info("commandstats")
    assert "cmdstat_scan" in statistics
