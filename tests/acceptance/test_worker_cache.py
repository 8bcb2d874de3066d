"""The cache of a running worker: an edit is followed, secrets are sealed, and what an operator is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from cache import keys
from tests.harness import Platform, process
from tests.worker_command import ERROR, SLACK_TOKEN, Surroundings, WorkerCommand
from workers.embedded.servers import running, start_mongodb

WATCHES = "watching MongoDB for changes"
UNSUPPORTED = "MongoDB has no change streams"
OPEN = "CACHE_SECRET_KEY is not set"


@pytest.fixture
async def raw(surroundings: Surroundings) -> AsyncIterator[Redis]:
    """An ordinary client of the worker's Redis."""
    async with Redis.from_url(f"redis://{surroundings.valkey.address}/0") as client:
        yield client


def pipeline_key(stored: Platform) -> str:
    return keys.pipeline(*stored.identifiers.values())


def said(worker: WorkerCommand, beginning: str) -> int:
    return sum(line["message"].startswith(beginning) for line in worker.logs())


async def sampled(worker: WorkerCommand, name: str, holds: Callable[[float], bool]) -> None:
    """Wait for a metric to have such a value."""
    async with asyncio.timeout(20):
        while not any(  # noqa: ASYNC110 another process
            line.startswith(name) and holds(float(line.rpartition(" ")[2])) for line in await worker.samples()
        ):
            await asyncio.sleep(0.05)


async def test_an_edit_made_in_mongodb_is_out_of_redis_while_the_worker_idles(
    surroundings: Surroundings, client: Client, raw: Redis
) -> None:
    stored = surroundings.stored
    async with surroundings.worker() as worker:
        await worker.says(WATCHES)
        await process(client, stored.message(log_data=ERROR))
        assert await raw.get(pipeline_key(stored)) is not None
        await stored.update("Pipelines", stored.identifiers, {"pipelineName": "renamed"})
        async with asyncio.timeout(10):
            while await raw.exists(pipeline_key(stored)):  # noqa: ASYNC110 another process
                await asyncio.sleep(0.02)
        await sampled(worker, "datanadhi_cache_watcher_events", lambda count: count >= 1)
        assert await worker.stop() == 0


@pytest.mark.parametrize("role", ["pipeline", "destination"])
async def test_every_role_watches_and_leaves_the_lock_when_it_is_told_to_stop(
    surroundings: Surroundings, raw: Redis, role: str
) -> None:
    async with surroundings.worker(WORKER_TYPE=role) as worker:
        await worker.says(WATCHES)
        lock = keys.watch_lock(surroundings.stored.database)
        assert await raw.exists(lock)
        assert await worker.stop() == 0
        assert not await raw.exists(lock)


async def test_a_worker_that_is_told_not_to_watch_does_not(
    surroundings: Surroundings, client: Client, raw: Redis
) -> None:
    stored = surroundings.stored
    async with surroundings.worker(CACHE_WATCH="false") as worker:
        await process(client, stored.message(log_data=ERROR))
        assert not await raw.exists(keys.watch_lock(stored.database), keys.watch_state(stored.database))
        assert await worker.stop() == 0
    assert not [line for line in worker.logs() if line["context"]["logger"] == "cache.watcher"]


async def test_beside_a_standalone_mongodb_it_says_once_that_ttls_alone_hold(
    surroundings: Surroundings, client: Client, tmp_path: Path
) -> None:
    async with running(start_mongodb(tmp_path / "standalone", options=("--standalone",))) as mongodb:
        stored = replace(surroundings.stored, url=f"mongodb://{mongodb.address}/?directConnection=true")
        await stored.store()
        surroundings.stored = stored
        async with surroundings.worker() as worker:
            await worker.says(UNSUPPORTED)
            assert (await process(client, stored.message(log_data=ERROR)))["success"] is True
            assert await worker.stop() == 0
    assert said(worker, UNSUPPORTED) == 1
    assert not said(worker, WATCHES)


async def test_with_a_key_no_credential_lies_in_redis(surroundings: Surroundings, client: Client, raw: Redis) -> None:
    """Every value of every key is looked at, whatever it is for."""
    stored = surroundings.stored
    async with surroundings.worker(CACHE_SECRET_KEY="newest,older") as worker:
        await process(client, stored.message(log_data=ERROR))
        assert len(surroundings.receiver.requests) == 1
        values = await every_value(raw)
        assert any(b":ic:" in key and key.endswith(b":decrypted") for key in values)
        assert not [key for key, value in values.items() if SLACK_TOKEN.encode() in value]
        assert await worker.stop() == 0
    assert SLACK_TOKEN not in worker.log_path.read_text()


async def test_without_one_they_lie_there_as_the_platform_keeps_them(
    surroundings: Surroundings, client: Client, raw: Redis
) -> None:
    """What the test above looks for would be found."""
    async with surroundings.worker():
        await process(client, surroundings.stored.message(log_data=ERROR))
        assert [key for key, value in (await every_value(raw)).items() if SLACK_TOKEN.encode() in value]


async def every_value(raw: Redis) -> dict[bytes, bytes]:
    """All that a Redis holds, by key."""
    values = {}
    for key in await raw.keys():
        is_hash = await raw.type(key) == b"hash"
        values[key] = b"".join((await raw.hgetall(key)).values()) if is_hash else await raw.get(key)
    return values


async def test_a_redis_elsewhere_without_tls_and_without_a_key_is_warned_of_once(surroundings: Surroundings) -> None:
    """It need not be reached for that."""
    elsewhere = "redis://:hunter2@redis.invalid:6379/0"
    async with surroundings.worker(REDIS_URL=elsewhere) as worker:
        assert said(worker, OPEN) == 1
    assert "hunter2" not in worker.log_path.read_text()
    async with surroundings.worker(REDIS_URL=elsewhere, CACHE_SECRET_KEY="key") as worker:
        assert said(worker, OPEN) == 0
    async with surroundings.worker() as worker:
        assert said(worker, OPEN) == 0


async def test_the_state_of_the_cache_is_among_the_metrics(surroundings: Surroundings, client: Client) -> None:
    async with surroundings.worker(CACHE_NEAR_TTL_MS="0") as worker:
        await process(client, surroundings.stored.message(log_data=ERROR))
        await process(client, surroundings.stored.message(log_data=ERROR))
        await sampled(worker, "datanadhi_cache_source_reads", lambda reads: reads >= 4)
        await sampled(worker, "datanadhi_cache_watcher_watching", lambda watching: watching == 1)
        await sampled(worker, "datanadhi_cache_full_invalidations", lambda count: count == 1)
        await sampled(worker, "datanadhi_cache_breaker_state", lambda state: state == 0)
        await sampled(worker, "datanadhi_cache_fills_refused", lambda refused: refused >= 0)
        samples = await worker.samples()
        bounds = [line for line in samples if line.startswith("datanadhi_cache_read_seconds_bucket")]
        assert any('outcome="hit"' in line and 'le="0.001"' in line for line in bounds)
        assert any('outcome="miss"' in line for line in bounds)
        assert any(line.startswith("datanadhi_cache_watcher_lag_seconds") for line in samples)
        await surroundings.valkey.stop()
        await process(client, surroundings.stored.message(log_data=ERROR))
        await sampled(worker, "datanadhi_cache_breaker_state", lambda state: state > 0)
        await sampled(worker, "datanadhi_cache_calls_without_redis", lambda calls: calls > 0)
        await sampled(worker, "datanadhi_cache_outages", lambda outages: outages == 1)
        await sampled(worker, "datanadhi_cache_watcher_watching", lambda watching: watching == 0)
