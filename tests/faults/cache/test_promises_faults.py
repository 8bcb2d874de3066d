"""Promises of the cache under faults that no other file holds: another process's view, and the settings as they are."""

from __future__ import annotations

import asyncio
import gc
import signal
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from cache import breaker, keys, redis_cache, watcher
from cache import catalog as catalog_module
from cache.catalog import Catalog
from cache.invalidation import Invalidator
from cache.redis_cache import RedisCache
from cache.source import MongoSource, SourceUnavailableError
from cache.watcher import Watcher
from tests.python_process import python_process
from workers.embedded.servers import Server, free_port, running, start_mongodb

# pymongo leaves a socket to the garbage collector if it is closed while it connects to a server that is away.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")

PATIENCE_SECONDS = 30
MOST_SECONDS_OPEN = 50e-6
MOST_SECONDS_UNKNOWN = 5
IDS = {"organisationId": "o", "projectId": "p", "pipelineId": "l"}
KEY = keys.pipeline("o", "p", "l")

ANOTHER_CATALOG = """
    import asyncio, sys
    from cache.catalog import Catalog
    from cache.redis_cache import RedisCache
    from cache.source import MongoSource

    async def main():
        redis = RedisCache(sys.argv[1], first_cooldown=0.05, longest_cooldown=0.2)
        catalog = Catalog(redis, MongoSource.connect(*sys.argv[2:]), sec_db="s", near_ttl=0.1)
        while await asyncio.to_thread(sys.stdin.readline):
            print((await catalog.pipeline("o", "p", "l"))["version"], flush=True)

    asyncio.run(main())
"""

ANOTHER_WATCHER = """
    import asyncio, sys
    from cache.invalidation import Invalidator
    from cache.redis_cache import RedisCache
    from cache.watcher import Watcher

    async def main():
        redis = RedisCache(sys.argv[1])
        async with Watcher(redis, *sys.argv[2:], Invalidator(redis), lock_seconds=1.0).running() as watcher:
            await watcher.until(lambda one: one.watching)
            print("watching", flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


async def _seen(process: asyncio.subprocess.Process) -> str:
    """The version that the catalog of another process gives."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    async with asyncio.timeout(PATIENCE_SECONDS):
        return (await process.stdout.readline()).decode().strip()


async def _until_cached(process: asyncio.subprocess.Process, redis_url: str, version: int) -> None:
    """Wait until another process sees that version, and has put it into Redis, where it would stay for an hour."""
    async with Redis.from_url(redis_url) as raw, asyncio.timeout(PATIENCE_SECONDS):
        while await _seen(process) != f"{version}" or f'"version":{version}' not in str(await raw.get(KEY)):  # noqa: ASYNC110 neither announces it
            await asyncio.sleep(0.02)


def _mongo_url(server: Server) -> str:
    return f"mongodb://{server.address}/?directConnection=true"


@pytest_asyncio.fixture
async def edit(mongo_url: str, database_name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Gives a pipeline its next version, in MongoDB itself; the first is there already."""
    async with AsyncMongoClient(mongo_url) as client:

        async def next_version() -> None:
            change: dict[str, Any] = {"$inc": {"version": 1}, "$set": {"startNodeId": "start"}}
            await client[database_name]["Pipelines"].update_one(IDS, change, upsert=True)

        await next_version()
        yield next_version
        await client.drop_database(database_name)


async def test_another_process_sees_an_edit_also_one_made_while_redis_was_away_and_the_watcher_was_killed(
    own_valkey: Server, mongo_url: str, database_name: str, edit: Callable[[], Awaitable[None]]
) -> None:
    arguments = (f"redis://{own_valkey.address}/0", mongo_url, database_name)
    redis = RedisCache.configure(arguments[0], first_cooldown=0.05, longest_cooldown=0.2)
    async with (
        python_process(ANOTHER_CATALOG, *arguments) as reader,
        python_process(ANOTHER_WATCHER, *arguments) as watching,
    ):
        assert watching.stdout is not None
        assert await watching.stdout.readline() == b"watching\n"
        await _until_cached(reader, arguments[0], 1)
        await edit()
        await _until_cached(reader, arguments[0], 2)

        own_valkey.send_signal(signal.SIGSTOP)
        watching.kill()
        await edit()
        await watching.wait()
        own_valkey.send_signal(signal.SIGCONT)
        successor = Watcher(redis, mongo_url, database_name, Invalidator(redis), lock_seconds=1.0)
        async with successor.running():
            await _until_cached(reader, arguments[0], 3)
        assert successor.full_invalidations == 0, "the edit was found, and nothing else was deleted"


@pytest_asyncio.fixture
async def source() -> AsyncIterator[MongoSource]:
    """Of nowhere: the test says what it reads."""
    source = MongoSource.connect(f"mongodb://127.0.0.1:{free_port()}", "faults")
    yield source
    await source.aclose()


async def _nobody_listens(_server: Server) -> str:
    return f"127.0.0.1:{free_port()}"


async def _killed(server: Server) -> str:
    await server.kill()
    return server.address


async def _frozen(server: Server) -> str:
    server.send_signal(signal.SIGSTOP)
    return server.address


async def _locked(server: Server) -> str:
    async with Redis.from_url(f"redis://{server.address}") as raw:
        await raw.config_set("requirepass", "secret")
    return server.address


@pytest.mark.parametrize("fault", [_nobody_listens, _killed, _frozen, _locked])
async def test_a_thousand_reads_give_nothing_and_once_it_is_open_the_median_takes_under_50_microseconds(
    own_valkey: Server, fault: Callable[[Server], Awaitable[str]]
) -> None:
    """With the budget and the cooldowns that a worker has. A median is not moved by what else the machine does."""
    redis = RedisCache.configure(f"redis://{own_valkey.address}/0")
    assert await redis.safe_set("key", "value", 100)
    await RedisCache.reset()
    redis = RedisCache.configure(f"redis://{await fault(own_valkey)}/0")
    assert await asyncio.gather(*(redis.safe_get("key") for _ in range(1000))) == [None] * 1000
    while redis.state == "closed":
        assert await redis.safe_get("key") is None
    took = []
    for _ in range(1001):
        begun = time.perf_counter()
        assert await redis.safe_get("key") is None
        took.append(time.perf_counter() - begun)
    assert statistics.median(took) < MOST_SECONDS_OPEN


@pytest.mark.parametrize(
    ("maximum_memory", "primary"), [(1, None), (0, ("127.0.0.1", 1))], ids=["out of memory", "read-only"]
)
async def test_a_thousand_reads_at_once_of_a_redis_that_refuses_writes_are_answered(
    own_valkey: Server, maximum_memory: int, primary: tuple[str, int] | None
) -> None:
    redis = RedisCache.configure(f"redis://{own_valkey.address}/0", timeout=10.0)
    assert await redis.safe_set("key", "value", 100)
    async with Redis.from_url(f"redis://{own_valkey.address}") as raw:
        await raw.config_set("maxmemory", maximum_memory)
        if primary is not None:
            await raw.replicaof(*primary)
        assert await asyncio.gather(*(redis.safe_get("key") for _ in range(1000))) == [b"value"] * 1000
        assert await redis.safe_set("key", "another", 100) is False
    assert redis.breaker.outages == 0


async def test_with_both_servers_frozen_an_unknown_pipeline_fails_within_five_seconds(
    own_valkey: Server, tmp_path: Path
) -> None:
    """With every budget as a worker has it, and servers that say nothing: what takes the longest."""
    async with running(start_mongodb(tmp_path / "mongodb")) as mongodb:
        redis = RedisCache.configure(f"redis://{own_valkey.address}/0")
        source = MongoSource.connect(_mongo_url(mongodb), "faults")
        catalog = Catalog(redis, source, sec_db="s")
        assert await catalog.pipeline("o", "p", "l") is None
        for server in (own_valkey, mongodb):
            server.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(MOST_SECONDS_UNKNOWN):
            with pytest.raises(SourceUnavailableError, match="pipelineId=unknown"):
                await catalog.pipeline("o", "p", "unknown")
        await catalog.aclose()
        mongodb.send_signal(signal.SIGKILL)
        await source.aclose()
    gc.collect()  # see `pytestmark`: here, and not in the middle of another test


async def test_thawed_it_is_read_again_with_the_cooldown_that_a_worker_has(own_valkey: Server) -> None:
    """Within 2 s where nothing else keeps the machine busy; the bound here is the test's patience."""
    redis = RedisCache.configure(f"redis://{own_valkey.address}/0")
    assert await redis.safe_set("key", "value", 100)
    own_valkey.send_signal(signal.SIGSTOP)
    while redis.state == "closed":
        assert await redis.safe_get("key") is None
    own_valkey.send_signal(signal.SIGCONT)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await redis.safe_get("key") != b"value":
            assert redis.breaker._recovery is not None
            await redis.breaker._recovery


async def test_without_redis_what_was_read_before_an_invalidation_is_not_remembered_after_it(
    source: MongoSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no lease to tell then; this process knows of the invalidation by itself."""
    version, read, let_go = [1], asyncio.Event(), asyncio.Event()

    async def pipeline(*_identifiers: str) -> dict[str, Any]:
        document = {**IDS, "startNodeId": "start", "version": version[0]}
        read.set()
        await let_go.wait()
        return document

    monkeypatch.setattr(source, "pipeline", pipeline)
    redis = RedisCache.configure(f"redis://127.0.0.1:{free_port()}/0")
    catalog = Catalog(redis, source, sec_db="s", near_ttl=60)
    before = asyncio.create_task(catalog.pipeline("o", "p", "l"))
    await read.wait()
    version[0] = 2
    await Invalidator(redis, catalog).pipeline("o", "p", "l")
    let_go.set()
    assert (await before or {})["version"] == 1, "it asked before the edit"
    assert (await catalog.pipeline("o", "p", "l") or {})["version"] == 2
    await catalog.aclose()


def test_the_times_that_were_promised_are_the_defaults() -> None:
    """Tests are given shorter ones; these are what a worker has if nobody sets others."""
    assert redis_cache.DEFAULT_TIMEOUT_SECONDS == 0.25
    assert (breaker.FIRST_COOLDOWN_SECONDS, breaker.LONGEST_COOLDOWN_SECONDS) == (0.5, 30.0)
    assert catalog_module.NEAR_TTL_SECONDS == 2.0
    assert catalog_module.NEGATIVE_TTL_SECONDS <= 5.0, "a few seconds"
    assert catalog_module.STALE_MAX_SECONDS == 3600.0
    assert watcher.LOCK_SECONDS * (1 + 1 / watcher.ATTEMPTS_A_LIFETIME) < 15
