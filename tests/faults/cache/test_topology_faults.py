"""Nodes of a cluster, primaries and sentinels that fail: nobody notices, and what takes over is found."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path

import pytest
from redis.crc import key_slot

from cache.redis_cache import RedisCache
from tests.redis_topologies import SERVICE, ClusterServers, SentinelServers, client, cluster, sentinels
from workers.embedded.servers import Server, free_port, running, start_valkey

BUDGET = 0.25
MANY = [f"key{number}" for number in range(50)]
FIRST = next(key for key in MANY if key_slot(key.encode()) < 5461)
"""A key of the first primary."""


def _configure(url: str, timeout: float = BUDGET) -> RedisCache:
    return RedisCache.configure(url, timeout=timeout, first_cooldown=0.05, longest_cooldown=0.2)


async def _thousand_reads(redis: RedisCache) -> None:
    """In two waves: into the fault, and into what it left behind."""
    for _ in range(2):
        await asyncio.gather(*(redis.safe_get(MANY[number % len(MANY)]) for number in range(500)))


async def _until_open(redis: RedisCache) -> None:
    while redis.state == "closed":
        await redis.safe_get(FIRST)


async def _recovered(redis: RedisCache) -> None:
    """A recovery may be followed by another outage while servers change their roles."""
    if redis.breaker._recovery is not None:
        await redis.breaker._recovery


async def _until_all_are_had(redis: RedisCache) -> None:
    while await redis.safe_get_many(MANY) != [b"value"] * len(MANY):
        await _recovered(redis)


async def _killed(server: Server) -> None:
    server.send_signal(signal.SIGKILL)
    await server.process.wait()


async def _fill(redis: RedisCache) -> None:
    for key in MANY:
        while not await redis.safe_set(key, "value", 100):
            await _recovered(redis)


async def _until_replicated(primary: Server, replica: Server) -> None:
    """A server that is killed takes with it what its replica has not heard of."""
    async with client(primary) as raw:
        assert await raw.wait(1, 5000) == 1
    assert replica.running


async def test_a_primary_that_was_killed_is_replaced_by_its_replica_and_all_is_had_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cache")
    async with cluster(tmp_path, replicas=1) as servers:
        redis = _configure(f"redis+cluster://{servers.addresses}")
        await _fill(redis)
        await _replicated(servers)
        await _killed(servers.primaries[0])
        await _thousand_reads(redis)
        await _until_open(redis)
        assert await redis.delete(*MANY[:2]) is False
        await _until_all_are_had(redis)
        await _fill(redis)
        assert await redis.delete_under("key")
        async with client(servers.replicas[0]) as raw:
            assert (await raw.info("replication"))["role"] == "master"
        messages = [record.getMessage() for record in caplog.records]
        assert sum("lost" in message for message in messages) == redis.breaker.outages
        assert f"the cluster of {servers.addresses}" in messages[0]
        await RedisCache.reset()


async def _replicated(servers: ClusterServers) -> None:
    """What the first primary has, its replica has as well."""
    async with client(servers.primaries[0]) as primary, client(servers.replicas[0]) as replica:
        while True:
            ahead = (await primary.info("replication"))["master_repl_offset"]
            if (await replica.info("replication"))["slave_repl_offset"] >= ahead:
                return


async def test_a_frozen_primary_keeps_two_hundred_callers_no_longer_than_one_and_is_used_again(tmp_path: Path) -> None:
    async with cluster(tmp_path) as servers:
        redis = _configure(f"redis+cluster://{servers.addresses}")
        await _fill(redis)
        servers.primaries[0].send_signal(signal.SIGSTOP)
        started = time.monotonic()
        await asyncio.gather(
            *(redis.safe_get(FIRST) for _ in range(100)), *(redis.safe_get_many(MANY) for _ in range(100))
        )
        assert time.monotonic() - started < 8 * BUDGET
        await _until_open(redis)
        assert await redis.safe_get_many(MANY) == [None] * len(MANY)
        assert await redis.delete_under("key") is False
        servers.primaries[0].send_signal(signal.SIGCONT)
        await _until_all_are_had(redis)
        await RedisCache.reset()


async def test_a_cluster_that_says_it_is_down_is_left_alone(tmp_path: Path) -> None:
    """Without a replica the others refuse everything in the end: no call is spent on hearing so."""
    async with cluster(tmp_path) as servers:
        redis = _configure(f"redis+cluster://{servers.addresses}")
        await _fill(redis)
        await _killed(servers.primaries[0])
        async with client(servers.primaries[1]) as raw:
            while (await raw.execute_command("CLUSTER INFO"))["cluster_state"] == "ok":
                await redis.safe_get_many(MANY)
        await _until_open(redis)
        attempts, before = redis.breaker.attempts, redis.breaker.bypassed
        await _thousand_reads(redis)
        assert redis.breaker.bypassed == before + 1000
        while redis.breaker.attempts < attempts + 3:
            assert redis.state != "closed"
            await asyncio.sleep(0.01)
        await RedisCache.reset()


async def test_one_node_of_those_that_are_named_suffices(tmp_path: Path) -> None:
    async with cluster(tmp_path) as servers:
        redis = _configure(f"redis+cluster://127.0.0.1:{free_port()},{servers.primaries[2].address}")
        await _fill(redis)
        assert await redis.safe_get_many(MANY) == [b"value"] * len(MANY)
        assert redis.breaker.outages == 0
        await RedisCache.reset()


async def test_where_no_node_listens_every_call_gives_nothing() -> None:
    redis = _configure(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}")
    await _thousand_reads(redis)
    await _until_open(redis)
    assert await redis.safe_get_many(MANY) == [None] * len(MANY)
    assert await redis.delete("key") is False
    assert await redis.delete_under("key") is False
    await RedisCache.reset()
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(
    "url", ["redis+cluster://user:planted@{}", "redis+sentinel://user:planted@{}/main?sentinel_password=planted"]
)
async def test_a_wrong_password_is_an_outage_and_shows_nowhere(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="cache")
    async with running(start_valkey(tmp_path, options=("--requirepass", "right"))) as server:
        redis = _configure(url.format(server.address))
        await _thousand_reads(redis)
        await _until_open(redis)
        assert "planted" not in caplog.text + repr(redis) + repr(vars(redis))
        await RedisCache.reset()


async def _fail_over(redis: RedisCache, servers: SentinelServers) -> None:
    await _until_replicated(servers.primary, servers.replica)
    await _killed(servers.primary)
    await _thousand_reads(redis)
    await _until_open(redis)
    await _until_all_are_had(redis)
    await _fill(redis)
    async with client(servers.replica) as raw:
        assert await raw.dbsize() == len(MANY)


async def test_a_primary_that_was_killed_is_replaced_as_the_sentinels_say(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cache")
    async with sentinels(tmp_path) as servers:
        redis = _configure(f"redis+sentinel://{servers.addresses}/{SERVICE}")
        await _fill(redis)
        await _fail_over(redis, servers)
        assert f"{SERVICE} of the sentinels {servers.addresses}" in caplog.text
        await RedisCache.reset()


async def test_a_sentinel_that_went_down_with_the_primary_hides_nothing(tmp_path: Path) -> None:
    """Frozen, and the first to be asked: the others are not kept waiting."""
    async with sentinels(tmp_path) as servers:
        servers.sentinels[0].send_signal(signal.SIGSTOP)
        redis = _configure(f"redis+sentinel://{servers.addresses}/{SERVICE}", timeout=2.0)
        await _fill(redis)
        assert redis.breaker.outages == redis.counters.late == 0
        await _fail_over(redis, servers)
        await RedisCache.reset()


async def test_a_primary_that_is_relieved_of_its_duty_is_left_for_the_new_one(tmp_path: Path) -> None:
    """It goes on as a replica, and would serve reads for ever."""
    async with sentinels(tmp_path) as servers:
        redis = _configure(f"redis+sentinel://{servers.addresses}/{SERVICE}")
        await _fill(redis)
        await _until_replicated(servers.primary, servers.replica)
        async with client(servers.sentinels[0]) as sentinel:
            await sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)
        async with client(servers.primary) as raw:
            while (await raw.info("replication"))["role"] == "master":
                await redis.safe_get(FIRST)
        while not await redis.safe_set("new", "value", 100):
            await _recovered(redis)
        async with client(servers.replica) as raw:
            assert await raw.get("new") == b"value"
        await RedisCache.reset()


async def test_a_primary_that_has_become_a_replica_is_an_outage_not_a_refusal(tmp_path: Path) -> None:
    """Whoever made it one: there is another primary to be found."""
    async with sentinels(tmp_path) as servers:
        redis = _configure(f"redis+sentinel://{servers.addresses}/{SERVICE}")
        await _fill(redis)
        async with client(servers.primary) as raw:
            await raw.replicaof("127.0.0.1", servers.replica.port)
        assert not await redis.safe_set("new", "value", 100)
        assert redis.breaker.outages == 1
        assert redis.counters.refused == 0
        await RedisCache.reset()


async def test_without_any_sentinel_the_primary_that_is_known_is_used_on(tmp_path: Path) -> None:
    async with sentinels(tmp_path) as servers:
        redis = _configure(f"redis+sentinel://{servers.addresses}/{SERVICE}")
        await _fill(redis)
        for sentinel in servers.sentinels:
            await _killed(sentinel)
        assert await redis.safe_get_many(MANY) == [b"value"] * len(MANY)
        assert redis.breaker.outages == 0
        await RedisCache.reset()
