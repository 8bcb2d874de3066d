"""Redis failing in every way it can: nobody notices but the log, and it is used again once it is well."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from cache.connections import MOST_CONNECTIONS
from cache.redis_cache import RedisCache
from workers.embedded.servers import Server, free_port, running, start_valkey

if TYPE_CHECKING:
    from conftest import Pretender

BUDGET = 0.25
FIRST_COOLDOWN = 0.05


def _configure(address: str, credentials: str = "") -> RedisCache:
    return RedisCache.configure(
        f"redis://{credentials}{address}/0", timeout=BUDGET, first_cooldown=FIRST_COOLDOWN, longest_cooldown=0.2
    )


async def _thousand_reads(redis: RedisCache) -> None:
    """In two waves: into the fault, and into what it left behind."""
    for _ in range(2):
        assert await asyncio.gather(*(redis.safe_get("key") for _ in range(500))) == [None] * 500


async def _until_open(redis: RedisCache) -> None:
    """A machine that stalls excuses Redis for a moment; the next read finds it out."""
    while redis.state == "closed":
        await redis.safe_get("key")


async def _until_recovered(redis: RedisCache) -> None:
    assert redis.breaker._recovery is not None
    await redis.breaker._recovery
    assert redis.state == "closed"


async def _whatever_is_called_gives_nothing(redis: RedisCache) -> None:
    assert await redis.safe_get("key") is None
    assert await redis.safe_get_many(["key", "key"]) == [None, None]
    assert await redis.safe_set("key", "value", 100) is False
    assert await redis.delete("key") is False
    assert await redis.delete_under("key") is False


async def test_where_nobody_listens_every_call_gives_nothing() -> None:
    redis = _configure(f"127.0.0.1:{free_port()}")
    await _thousand_reads(redis)
    await _until_open(redis)
    await _whatever_is_called_gives_nothing(redis)


async def test_once_it_is_open_a_call_costs_next_to_nothing() -> None:
    """No connection, no task, no lock: the event loop does not even turn."""
    redis = _configure(f"127.0.0.1:{free_port()}")
    await _until_open(redis)
    turned: list[bool] = []
    asyncio.get_running_loop().call_soon(turned.append, True)
    for _ in range(1000):
        assert await redis.safe_get("key") is None
    assert not turned


async def test_killed_and_started_again_it_is_used_again_and_each_change_is_logged_once(
    own_valkey: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cache")
    redis = _configure(own_valkey.address)
    assert await redis.safe_set("key", "value", 100)
    own_valkey.send_signal(signal.SIGKILL)
    await own_valkey.process.wait()
    await _thousand_reads(redis)
    await _until_open(redis)
    without = redis.breaker.bypassed
    assert without >= 500
    async with running(start_valkey(tmp_path / "again", port=own_valkey.port)):
        await _until_recovered(redis)
        assert await redis.safe_set("key", "value", 100)
        assert await redis.safe_get("key") == b"value"
        messages = [record.getMessage() for record in caplog.records]
        assert [message for message in messages if "lost" in message] == messages[:1]
        assert sum("PING" in message for message in messages) <= 1
        assert f"; {redis.breaker.bypassed} calls went without it" in messages[-1]
        await RedisCache.reset()


async def test_a_restart_that_nobody_asked_during_costs_nobody_anything(own_valkey: Server, tmp_path: Path) -> None:
    """All idle connections are dead, and each is replaced before it is used."""
    redis = _configure(own_valkey.address)
    await asyncio.gather(*(redis.safe_get("key") for _ in range(MOST_CONNECTIONS)))
    readers = [connection._reader for connection in redis._guard._pool._available_connections]
    assert len(readers) > 1
    await own_valkey.stop()
    async with running(start_valkey(tmp_path / "again", port=own_valkey.port)) as again:
        async with Redis.from_url(f"redis://{again.address}") as raw:
            await raw.set("key", "value")
        for reader in readers:
            await reader.read()  # the end has arrived here, too
        answers = await asyncio.gather(*(redis.safe_get("key") for _ in range(MOST_CONNECTIONS)))
        assert answers == [b"value"] * MOST_CONNECTIONS
        assert redis.breaker.outages == 0
        await RedisCache.reset()


async def test_frozen_it_keeps_two_hundred_callers_no_longer_than_one(own_valkey: Server) -> None:
    """One budget for all of them, not one after the other; the bound here is wide, for busy machines."""
    redis = _configure(own_valkey.address)
    assert await redis.safe_set("key", "value", 100)
    own_valkey.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    assert await asyncio.gather(*(redis.safe_get("key") for _ in range(200))) == [None] * 200
    assert time.monotonic() - started < 8 * BUDGET
    await _until_open(redis)
    await _whatever_is_called_gives_nothing(redis)
    own_valkey.send_signal(signal.SIGCONT)
    await _until_recovered(redis)
    assert await redis.safe_get("key") == b"value"


async def test_answers_to_questions_that_were_given_up_reach_nobody(own_valkey: Server) -> None:
    redis = _configure(own_valkey.address)
    assert await redis.safe_set("early", "early", 100)
    assert await redis.safe_set("late", "late", 100)
    own_valkey.send_signal(signal.SIGSTOP)
    await asyncio.gather(*(redis.safe_get("early") for _ in range(MOST_CONNECTIONS)))
    await _until_open(redis)
    own_valkey.send_signal(signal.SIGCONT)
    await _until_recovered(redis)
    answers = await asyncio.gather(*(redis.safe_get("late") for _ in range(MOST_CONNECTIONS)))
    assert answers == [b"late"] * MOST_CONNECTIONS


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n",
        b"$99999999999\r\n",
        b"$-7\r\n",
        b"*-7\r\n",
        b":notanumber\r\n",
        b"x" * 200_000,
        b"*1\r\n" * 5000,
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"-ERR max number of clients reached\r\n",
    ],
    ids=range(12),
)
async def test_garbage_for_an_answer_is_a_failure_and_nothing_else(pretender: Pretender, garbage: bytes) -> None:
    async def answer(_question: bytes) -> bytes:
        return garbage

    async with pretender.listening(answer) as address:
        redis = _configure(address)
        await _thousand_reads(redis)
        await _whatever_is_called_gives_nothing(redis)
        await RedisCache.reset()


@pytest.mark.parametrize("garbage", [b":7\r\n", b"*1\r\n:7\r\n", b"$3\r\nab", b"!\r\n"])
async def test_garbage_after_a_good_start_is_nobodys_value(pretender: Pretender, garbage: bytes) -> None:
    async def answer(question: bytes) -> bytes:
        if b"PING" in question:
            return b"+PONG\r\n"
        return b"+OK\r\n" if b"SETNAME" in question else garbage

    async with pretender.listening(answer) as address:
        redis = _configure(address)
        await _thousand_reads(redis)
        await RedisCache.reset()


async def test_five_seconds_of_latency_are_an_outage(pretender: Pretender) -> None:
    async def answer(_question: bytes) -> bytes:
        await asyncio.sleep(5)
        return b"+OK\r\n"

    async with pretender.listening(answer) as address:
        redis = _configure(address)
        await _thousand_reads(redis)
        await _until_open(redis)
        await _whatever_is_called_gives_nothing(redis)
        await RedisCache.reset()


async def test_an_outage_is_one_attempt_at_a_time_however_many_ask(pretender: Pretender) -> None:
    """No storm: what connects, once it is open, is the one background task."""
    hung_up = asyncio.Event()

    async def answer(_question: bytes) -> bytes:
        hung_up.set()
        raise ConnectionResetError

    async with pretender.listening(answer) as address:
        redis = _configure(address)
        await _until_open(redis)
        connected, attempts = pretender.connections, redis.breaker.attempts
        while redis.breaker.attempts < attempts + 3:
            hung_up.clear()
            assert await asyncio.gather(*(redis.safe_get("key") for _ in range(1000))) == [None] * 1000
            await hung_up.wait()
        assert pretender.connections - connected <= redis.breaker.attempts - attempts + 1
        await RedisCache.reset()


async def test_a_wrong_password_is_an_outage_and_shows_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="cache")
    async with running(start_valkey(tmp_path, options=("--requirepass", "right"))) as server:
        redis = _configure(server.address, "planted-user:planted-password@")
        await _thousand_reads(redis)
        await _until_open(redis)
        assert "AuthenticationError" in caplog.text
        assert "planted" not in caplog.text + repr(redis) + repr(vars(redis)) + repr(redis.breaker)
        async with Redis.from_url(f"redis://:right@{server.address}") as raw:
            await raw.config_set("requirepass", "")
            await raw.acl_setuser(
                "planted-user", enabled=True, passwords=["+planted-password"], categories=["+@all"], keys=["*"]
            )
        await _until_recovered(redis)
        assert await redis.safe_set("key", "value", 100)
        await RedisCache.reset()


async def test_a_database_that_is_not_there_is_an_outage(own_valkey: Server) -> None:
    """Redis answers, and lets nobody in: no call can succeed, so none is tried."""
    redis = RedisCache.configure(f"redis://{own_valkey.address}/999")
    await _thousand_reads(redis)
    await _until_open(redis)


async def _out_of_memory(raw: Redis) -> None:
    await raw.config_set("maxmemory-policy", "noeviction")
    await raw.config_set("maxmemory", 1)


async def _plenty_of_memory(raw: Redis) -> None:
    await raw.config_set("maxmemory", 0)


async def _a_replica(raw: Redis) -> None:
    await raw.replicaof("127.0.0.1", free_port())


async def _no_replica(raw: Redis) -> None:
    await raw.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    ("fault", "cure"), [(_out_of_memory, _plenty_of_memory), (_a_replica, _no_replica)], ids=["OOM", "READONLY"]
)
async def test_where_writes_are_refused_reads_go_on(
    own_valkey: Server, fault: Any, cure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cache")
    redis = _configure(own_valkey.address)
    assert await redis.safe_set("key", "value", 100)
    async with Redis.from_url(f"redis://{own_valkey.address}") as raw:
        await fault(raw)
        for _ in range(500):
            assert await redis.safe_get("key") == b"value"
            assert await redis.safe_set("key", "planted-value", 100) is False
        await cure(raw)
    assert await redis.safe_set("key", "value", 100)
    assert redis.breaker.outages == 0
    refused, taken = [record.getMessage() for record in caplog.records]
    assert "refuses writes" in refused
    assert "takes writes again" in taken
    assert "planted" not in caplog.text


async def test_without_a_free_connection_calls_give_nothing_and_redis_is_not_blamed(own_valkey: Server) -> None:
    redis = _configure(own_valkey.address)
    assert await redis.safe_set("key", "value", 100)
    pool = redis._guard._pool
    taken = [await pool.get_connection() for _ in range(MOST_CONNECTIONS)]
    await _thousand_reads(redis)
    assert redis.state == "closed"
    assert redis.counters.exhausted == 1000
    for connection in taken:
        await pool.release(connection)
    assert await redis.safe_get("key") == b"value"


async def test_an_event_loop_that_was_held_up_does_not_make_redis_look_dead(own_valkey: Server) -> None:
    redis = _configure(own_valkey.address)
    assert await redis.safe_set("key", "value", 100)
    reading = [asyncio.create_task(redis.safe_get("key")) for _ in range(MOST_CONNECTIONS)]
    await asyncio.sleep(0)
    time.sleep(BUDGET * 1.2)  # noqa: ASYNC251 what holding the loop up is
    await asyncio.gather(*reading)
    assert redis.breaker.outages == 0
    assert await redis.safe_get("key") == b"value"


async def test_closing_in_the_middle_of_an_outage_leaves_nothing_running(own_valkey: Server) -> None:
    redis = _configure(own_valkey.address)
    assert await redis.safe_set("key", "value", 100)
    own_valkey.send_signal(signal.SIGSTOP)
    callers = [asyncio.create_task(redis.safe_get("key")) for _ in range(100)]
    await asyncio.sleep(0)
    await RedisCache.reset()
    assert await asyncio.gather(*callers) == [None] * 100
    assert len(asyncio.all_tasks()) == 1
