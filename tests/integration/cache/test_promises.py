"""Promises of the cache that no other file holds: two processes at once, MongoDB's load, connections, a dump."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from redis.asyncio import Redis
from temporalio.testing import ActivityEnvironment

from activities.contracts import PipelineId
from activities.lookups import Lookups
from cache import keys
from cache.catalog import Catalog
from cache.connections import MOST_CONNECTIONS
from cache.invalidation import Invalidator
from cache.redis_cache import RedisCache
from cache.sealing import Sealer
from cache.source import MongoSource
from tests.python_process import python_process
from workers.embedded.servers import free_port, running, start_valkey

PATIENCE_SECONDS = 30
PIPELINES = ("a", "b")
STEPS = 600

ANOTHER_CATALOG = """
    import asyncio, json, sys
    from cache import keys
    from cache.catalog import Catalog
    from cache.invalidation import Invalidator
    from cache.redis_cache import RedisCache
    from cache.source import MongoSource

    class Slow(MongoSource):
        hold_up = False
        let_go = None

        async def pipeline(self, *identifiers):
            document = await super().pipeline(*identifiers)
            if self.hold_up:
                self.let_go = asyncio.Event()
                arrived.set()
                await self.let_go.wait()
            return document

    async def answer(command, identifiers):
        global reading
        ids = ("o", "p", *identifiers)
        loading = (keys.pipeline(*ids), False) in catalog._reader._flights if identifiers else False
        if command == "read" and not loading:
            return (await catalog.pipeline(*ids))["version"]
        if command == "begin" and reading is None and not loading:
            source.hold_up = True
            reading = asyncio.create_task(catalog.pipeline(*ids))
            held_up = asyncio.create_task(arrived.wait())
            await asyncio.wait((reading, held_up), return_when=asyncio.FIRST_COMPLETED)
            held_up.cancel()
            arrived.clear()
            source.hold_up = False
            reading = None if reading.done() else reading
        if command == "end" and reading is not None:
            source.let_go.set()
            await reading
            reading = None
        if command in ("organisation", "project", "pipeline"):
            depth = ("organisation", "project", "pipeline").index(command) + 1
            return await getattr(Invalidator(redis, catalog), command)(*ids[:depth])
        return None

    async def main():
        global arrived, catalog, reading, redis, source
        arrived, reading = asyncio.Event(), None
        redis_url, mongo_url, database = sys.argv[1:]
        redis = RedisCache(redis_url, timeout=10.0)
        source = Slow.connect(mongo_url, database)
        catalog = Catalog(redis, source, sec_db="s", near_ttl=0, negative_ttl=0)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await answer(*json.loads(line))), flush=True)

    asyncio.run(main())
"""


class Elsewhere:
    """A catalog in another process, asked one thing at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, command: str, *identifiers: str) -> Any:
        """What it answers; None where a read of that key is held up, so that there is nothing to ask."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, identifiers]).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            return json.loads(await self._process.stdout.readline())


def _ids(pipeline: str) -> dict[str, str]:
    return {"organisationId": "o", "projectId": "p", "pipelineId": pipeline}


async def _edit(client: AsyncMongoClient[dict[str, Any]], database: str, pipeline: str) -> None:
    """Insert the pipeline or give it the next version."""
    edit = {"$inc": {"version": 1}, "$set": {"startNodeId": "start"}}
    await client[database]["Pipelines"].update_one(_ids(pipeline), edit, upsert=True)


class Interleaved:
    """Random steps over two catalogs, each in a process of its own, and what they must never show."""

    def __init__(self, catalogs: list[Elsewhere], raw: Redis, edit: Callable[[str], Awaitable[None]]) -> None:
        self.catalogs = catalogs
        self.raw = raw
        self.edit = edit
        self.versions = dict.fromkeys(PIPELINES, 1)
        self.invalidated = dict.fromkeys(PIPELINES, 1)
        self.reads = 0

    async def step(self, dice: random.Random) -> None:
        """One step, and a look at what Redis holds."""
        kinds = (self._read, self._slow_read, self._end, self._edit, self._invalidate, self._expire, self._restart)
        kind = dice.choices(kinds, (4, 4, 3, 2, 4, 2, 1))[0]
        await kind(dice.choice(self.catalogs), dice.choice(PIPELINES), dice)
        for pipeline, version in self.invalidated.items():
            cached = await self.raw.get(keys.pipeline("o", "p", pipeline))
            assert cached is None or json.loads(cached)["version"] >= version

    async def _read(self, catalog: Elsewhere, pipeline: str, _dice: random.Random) -> None:
        version = await catalog.ask("read", pipeline)
        assert version is None or version >= self.invalidated[pipeline]
        self.reads += version is not None

    async def _slow_read(self, catalog: Elsewhere, pipeline: str, _dice: random.Random) -> None:
        await catalog.ask("begin", pipeline)

    async def _end(self, catalog: Elsewhere, _pipeline: str, _dice: random.Random) -> None:
        await catalog.ask("end")

    async def _edit(self, _catalog: Elsewhere, pipeline: str, _dice: random.Random) -> None:
        await self.edit(pipeline)
        self.versions[pipeline] += 1

    async def _invalidate(self, catalog: Elsewhere, pipeline: str, dice: random.Random) -> None:
        await self._edit(catalog, pipeline, dice)
        level = dice.choice(("organisation", "project", "pipeline"))
        assert await catalog.ask(level, pipeline) is True
        reached = (pipeline,) if level == "pipeline" else PIPELINES
        self.invalidated.update({name: self.versions[name] for name in reached})

    async def _expire(self, _catalog: Elsewhere, pipeline: str, dice: random.Random) -> None:
        key = keys.pipeline("o", "p", pipeline)
        await self.raw.delete(dice.choice((key, keys.lease(key))))

    async def _restart(self, _catalog: Elsewhere, _pipeline: str, _dice: random.Random) -> None:
        """Empty, and not knowing any script."""
        await self.raw.flushall()
        await self.raw.script_flush()


@pytest.mark.parametrize("seed", [1, 2])
async def test_two_processes_never_show_what_is_older_than_an_invalidation(
    own_redis_url: str, mongo_url: str, database_name: str, seed: int
) -> None:
    """Slow fills, edits, invalidations at every level, expiries and restarts, with the real servers and processes."""
    arguments = (own_redis_url, mongo_url, database_name)
    async with (
        python_process(ANOTHER_CATALOG, *arguments) as one,
        python_process(ANOTHER_CATALOG, *arguments) as other,
        Redis.from_url(arguments[0]) as raw,
        AsyncMongoClient(mongo_url) as client,
    ):
        for pipeline in PIPELINES:
            await _edit(client, database_name, pipeline)
        catalogs = [Elsewhere(one), Elsewhere(other)]
        interleaved = Interleaved(catalogs, raw, lambda pipeline: _edit(client, database_name, pipeline))
        dice = random.Random(seed)  # noqa: S311 the same steps each time, so that a failure can be had again
        for _ in range(STEPS):
            await interleaved.step(dice)
        assert interleaved.reads > STEPS / 20
        assert max(interleaved.invalidated.values()) > STEPS / 20
        await client.drop_database(database_name)


async def test_ten_seconds_of_reads_without_redis_read_mongodb_once_a_key_and_near_ttl(
    source: MongoSource, make_catalog: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 reads a second of 10 keys, by a clock that does not wait: at 0, 2, 4, 6 and 8 s, and never in between."""
    await RedisCache.reset()
    redis = RedisCache.configure(f"redis://127.0.0.1:{free_port()}/0")
    read: Counter[str] = Counter()

    async def pipeline(organisation_id: str, project_id: str, pipeline_id: str) -> dict[str, str]:
        read[pipeline_id] += 1
        await asyncio.sleep(0)
        return {
            "organisationId": organisation_id,
            "projectId": project_id,
            "pipelineId": pipeline_id,
            "startNodeId": "s",
        }

    monkeypatch.setattr(source, "pipeline", pipeline)
    catalog = make_catalog(redis=redis, near_ttl=2.0)
    clock = [1000.0]
    catalog._reader._near._clock = lambda: clock[0]
    for _ in range(100):
        await asyncio.gather(*(catalog.pipeline("o", "p", str(number % 10)) for number in range(50)))
        clock[0] += 0.1
    assert read == {str(number): 5 for number in range(10)}


async def test_what_was_missing_before_an_invalidation_is_not_remembered_as_missing_after_it(
    redis: RedisCache, source: MongoSource, make_catalog: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is stored for it, so no lease tells."""
    there: list[dict[str, str]] = []
    read, let_go = asyncio.Event(), asyncio.Event()

    async def organisation(_organisation_id: str) -> dict[str, str] | None:
        found = there[0] if there else None
        read.set()
        await let_go.wait()
        return found

    monkeypatch.setattr(source, "organisation", organisation)
    catalog = make_catalog(negative_ttl=60)
    before = asyncio.create_task(catalog.organisation("new"))
    await read.wait()
    there.append({"organisationId": "new"})
    assert await Invalidator(redis, catalog).organisation("new")
    let_go.set()
    assert await before is None
    assert await catalog.organisation("new") == {"organisationId": "new"}


async def test_what_is_filled_together_does_not_expire_together(
    raw: Redis, source: MongoSource, make_catalog: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its times to live are spread over a tenth of them, 180 s; that 20 are within 10 s is no chance."""

    async def organisation(organisation_id: str) -> dict[str, str]:
        return {"organisationId": organisation_id}

    monkeypatch.setattr(source, "organisation", organisation)
    catalog = make_catalog()
    names = [str(number) for number in range(20)]
    await asyncio.gather(*(catalog.organisation(name) for name in names))
    ttls = [await raw.ttl(keys.organisation(name)) for name in names]
    assert max(ttls) - min(ttls) > 10


async def test_the_nonce_of_an_api_key_is_compared_in_constant_time(
    make_catalog: Callable[..., Catalog], platform: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer tells how it was compared, and no clock reliably; so it is seen who compares."""
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr("cache.api_keys.hmac.compare_digest", lambda *both: compared.append(both) or both[0] == both[1])
    environment = platform["env"]
    nonce = environment["NONCE_VALUE"]
    api_key = next(name for name in platform["redis"] if ":apikey:" in name).rpartition(":")[2]
    for expected in (nonce, f"{nonce[:-1]}?"):
        catalog = make_catalog(sec_global=environment["SEC_GLOBAL"], nonce_value=expected)
        await RedisCache.instance().delete(keys.api_key(api_key))
        assert (await catalog.api_key(api_key) is not None) == (expected == nonce)
    assert compared == [(nonce.encode(), nonce.encode()), (nonce.encode(), f"{nonce[:-1]}?".encode())]


async def test_however_many_activities_run_the_process_has_one_pool_of_connections(
    raw: Redis, make_catalog: Callable[..., Catalog], pipeline_ids: tuple[str, str, str]
) -> None:
    lookups = Lookups(make_catalog(near_ttl=0))
    organisation_id, project_id, pipeline_id = pipeline_ids
    pipeline = PipelineId(organisation_id=organisation_id, project_id=project_id, pipeline_id=pipeline_id)
    before = {client["id"] for client in await raw.client_list()}
    for _ in range(5):
        fetches = (lookups.fetch_pipeline_config, lookups.fetch_workflow_config)
        await asyncio.gather(*(ActivityEnvironment().run(fetch, pipeline) for fetch in fetches for _ in range(100)))
    ours = [client for client in await raw.client_list() if client["id"] not in before]
    assert {client["name"] for client in ours} == {"datanadhi-worker"}
    assert len(ours) <= MOST_CONNECTIONS


async def test_a_planted_credential_is_in_no_byte_of_a_dump_and_in_no_repr_log_or_metric(
    source: MongoSource,
    make_catalog: Callable[..., Catalog],
    connector_ids: tuple[str, str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is written to disk, uncompressed, and all that is told of a process in which everything was read."""
    caplog.set_level("DEBUG")
    await RedisCache.reset()
    async with running(start_valkey(tmp_path, options=("--rdbcompression", "no", "--dir", str(tmp_path)))) as server:
        redis = RedisCache.configure(f"redis://{server.address}/0")
        told: list[object] = []
        sealer = Sealer(["planted-sealing-key"])
        options = {"observe": lambda *what: told.append(what), "observe_seconds": lambda *what: told.append(what)}
        catalog = make_catalog(redis=redis, sealer=sealer, **options)
        for refresh in (False, True):
            assert await catalog.connector(*connector_ids, refresh=refresh) is not None
        assert await catalog.organisation_secret(connector_ids[0])
        assert await catalog.project_secret(*connector_ids[:2])
        async with Redis.from_url(f"redis://{server.address}/0") as raw:
            await raw.save()
        dump = (tmp_path / "dump.rdb").read_bytes()
        assert keys.decrypted_connector(*connector_ids).encode() in dump, "a credential would be seen as well"
        shown = repr([redis, catalog, source, sealer, redis.counters, redis.breaker, told, caplog.text])
        for planted in ("xoxb-held-out", "QST4ZgziKZy7cH5", "glp9CQHBB7mEBL2", "planted-sealing-key"):
            assert planted.encode() not in dump
            assert planted not in shown
        await RedisCache.reset()
