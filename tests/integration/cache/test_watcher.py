"""The watcher: an edit made in MongoDB, by whoever, is out of Redis; exactly that, and by one worker at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from redis.asyncio import Redis

from cache import keys
from cache.catalog import Catalog
from cache.changes import COLLECTIONS
from cache.invalidation import Invalidator
from cache.redis_cache import RedisCache
from cache.watcher import Watcher

Database = AsyncDatabase[dict[str, Any]]
MakeCatalog = Callable[..., Catalog]
Edit = Callable[[Database], Awaitable[Any]]

PATIENCE_SECONDS = 20
IDS = {"organisationId": "1", "projectId": "2", "pipelineId": "3"}
DOCUMENTS: dict[str, dict[str, Any]] = {
    "Organisations": {"organisationId": "1", "organisationName": "first"},
    "Projects": {"organisationId": "1", "projectId": "2", "projectName": "first"},
    "Pipelines": {**IDS, "pipelineCode": "code-3", "startNodeId": "a"},
    "PipelineNodes": {**IDS, "nodeId": "a", "nodeConfig": {"name": "first"}},
    "IntegrationConnectors": {"organisationId": "1", "projectId": "2", "connectorId": "c", "connectorName": "first"},
    "IntegrationTargets": {**IDS, "targetId": "t", "destinationName": "first"},
}


def _of_pipeline(organisation: str, project: str, pipeline: str) -> set[str]:
    return {
        keys.pipeline(organisation, project, pipeline),
        keys.workflow(organisation, project, pipeline),
        keys.target(organisation, project, pipeline, "t"),
        keys.target(organisation, project, pipeline, "t1"),
    }


def _of_project(organisation: str, project: str) -> set[str]:
    return {
        keys.project(organisation, project),
        keys.project_secret(organisation, project),
        keys.pipeline_by_code(organisation, project, "code-3"),
        keys.pipeline_by_code(organisation, project, "code-30"),
        keys.connector(organisation, project, "c"),
        keys.decrypted_connector(organisation, project, "c"),
        keys.connector(organisation, project, "c1"),
        keys.decrypted_connector(organisation, project, "c1"),
        *_of_pipeline(organisation, project, "3"),
        *_of_pipeline(organisation, project, "30"),
    }


def _of_organisation(organisation: str) -> set[str]:
    return {
        keys.organisation(organisation),
        keys.organisation_secret(organisation),
        *_of_project(organisation, "2"),
        *_of_project(organisation, "20"),
    }


CACHED = _of_organisation("1") | _of_organisation("10")
"""One tenant, its namesakes by beginning, its other projects and pipelines."""

EXACTLY: dict[str, set[str]] = {
    "Organisations": _of_organisation("1"),
    "Projects": _of_project("1", "2"),
    "Pipelines": _of_pipeline("1", "2", "3") | {keys.pipeline_by_code("1", "2", "code-3")},
    "PipelineNodes": {keys.workflow("1", "2", "3")},
    "IntegrationConnectors": {keys.connector("1", "2", "c"), keys.decrypted_connector("1", "2", "c")},
    "IntegrationTargets": {keys.target("1", "2", "3", "t")},
}
"""What an edit of the one document in a collection makes outdated."""


@pytest_asyncio.fixture
async def edited(mongo_url: str, database_name: str) -> AsyncIterator[Database]:
    """A database with a document in each collection."""
    async with AsyncMongoClient(mongo_url) as client:
        for collection, document in DOCUMENTS.items():
            await client[database_name][collection].insert_one(dict(document))
        yield client[database_name]
        await client.drop_database(database_name)


@contextlib.asynccontextmanager
async def _watching(
    redis: RedisCache, mongo_url: str, database: str, catalog: Catalog | None = None, **options: Any
) -> AsyncIterator[Watcher]:
    """A watcher that is at it."""
    async with Watcher(redis, mongo_url, database, Invalidator(redis, catalog), **options).running() as watcher:
        await _until(watcher, lambda one: one.watching)
        yield watcher


@pytest_asyncio.fixture
async def watcher(redis: RedisCache, mongo_url: str, edited: Database) -> AsyncIterator[Watcher]:
    """The fleet's only one."""
    async with _watching(redis, mongo_url, edited.name) as watcher:
        yield watcher


async def _until(watcher: Watcher, condition: Callable[[Watcher], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await watcher.until(condition)


async def _edited(watcher: Watcher, edit: Awaitable[Any], count: int = 1) -> None:
    """Make an edit and wait until the watcher has dealt with it."""
    before = watcher.events
    await edit
    await _until(watcher, lambda one: one.events >= before + count)


async def _fill(raw: Redis) -> None:
    await raw.mset(dict.fromkeys(CACHED, "x"))
    await raw.set(keys.api_key("somebody"), "x")


async def _removed(raw: Redis) -> set[str]:
    assert await raw.exists(keys.api_key("somebody")), "API keys end with their TTL"
    return CACHED - {name.decode() for name in await raw.keys("*")}


async def _replace(collection: str, database: Database) -> None:
    await database[collection].replace_one({}, {**DOCUMENTS[collection], "changed": True})


async def _update(collection: str, database: Database) -> None:
    await database[collection].update_one({}, {"$set": {"changed": True}})


async def _insert(collection: str, database: Database) -> None:
    await database[collection].insert_one(dict(DOCUMENTS[collection]))


async def _keep_images(database: Database) -> None:
    for collection in COLLECTIONS:
        await database.command("collMod", collection, changeStreamPreAndPostImages={"enabled": True})


@pytest.mark.parametrize("edit", [_insert, _update, _replace])
@pytest.mark.parametrize("collection", list(COLLECTIONS))
async def test_an_edit_in_mongodb_is_out_of_redis_and_nothing_else_is(
    watcher: Watcher, raw: Redis, edited: Database, collection: str, edit: Callable[[str, Database], Awaitable[None]]
) -> None:
    await _fill(raw)
    await _edited(watcher, edit(collection, edited))
    assert await _removed(raw) == EXACTLY[collection]


@pytest.mark.parametrize("collection", list(COLLECTIONS))
async def test_a_delete_is_out_of_redis_and_nothing_else_is_where_there_are_pre_images(
    watcher: Watcher, raw: Redis, edited: Database, collection: str
) -> None:
    await _keep_images(edited)
    await _fill(raw)
    await _edited(watcher, edited[collection].delete_one({}))
    assert await _removed(raw) == EXACTLY[collection]
    assert watcher.full_invalidations == 1, "the one at the start"


@pytest.mark.parametrize("collection", list(COLLECTIONS))
async def test_a_delete_without_a_pre_image_takes_everything_and_says_once_what_helps(
    watcher: Watcher, raw: Redis, edited: Database, collection: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        await _fill(raw)
        await _edited(watcher, edited[collection].delete_one({}))
        assert await _removed(raw) == CACHED
        await _edited(watcher, _insert(collection, edited))
    said = [text for text in caplog.messages if "changeStreamPreAndPostImages" in text]
    assert len(said) == 1
    assert collection in said[0]


async def test_a_pipeline_that_gets_another_code_is_found_by_neither(
    watcher: Watcher, raw: Redis, edited: Database
) -> None:
    await _fill(raw)
    await _edited(watcher, edited["Pipelines"].update_one({}, {"$set": {"pipelineCode": "code-30"}}))
    by_code = {keys.pipeline_by_code("1", "2", code) for code in ("code-3", "code-30")}
    assert await _removed(raw) == _of_pipeline("1", "2", "3") | by_code


async def test_a_document_that_moves_is_at_neither_place(watcher: Watcher, raw: Redis, edited: Database) -> None:
    """Where it was is not said without a pre-image; it was somewhere in the organisation."""
    await _fill(raw)
    await _edited(watcher, edited["IntegrationTargets"].update_one({}, {"$set": {"projectId": "20"}}))
    assert await _removed(raw) == _of_organisation("1")


@pytest.mark.parametrize(
    "edit",
    [
        lambda database: database["PipelineNodes"].drop(),
        lambda database: database["PipelineNodes"].rename("Nodes"),
    ],
)
async def test_a_collection_that_goes_or_comes_takes_everything(
    watcher: Watcher, raw: Redis, edited: Database, edit: Edit
) -> None:
    await edited["Users"].insert_one({})
    await _fill(raw)
    await _edited(watcher, edit(edited))
    assert await _removed(raw) == CACHED
    await _fill(raw)
    await _edited(watcher, edited["Users"].rename("PipelineNodes"))
    assert await _removed(raw) == CACHED


async def test_it_goes_on_after_the_database_was_dropped(watcher: Watcher, raw: Redis, edited: Database) -> None:
    """MongoDB ends the stream then: each collection goes, then the database, then the stream."""
    await _fill(raw)
    await _edited(watcher, edited.client.drop_database(edited.name), len(DOCUMENTS) + 2)
    assert await _removed(raw) == CACHED
    await _fill(raw)
    await _edited(watcher, _insert("PipelineNodes", edited))
    assert keys.workflow("1", "2", "3") in await _removed(raw)


async def test_other_collections_are_none_of_its_business(watcher: Watcher, raw: Redis, edited: Database) -> None:
    await _fill(raw)
    await edited["Users"].insert_one(dict(IDS))
    await _edited(watcher, _insert("PipelineNodes", edited))
    assert watcher.events == 1
    assert await _removed(raw) == EXACTLY["PipelineNodes"]


@pytest.mark.parametrize("hostile", ["*", "1*", "[1]", "1:prj:2", "", 1, None])
async def test_hostile_identifiers_invalidate_nobody_and_stop_nothing(
    watcher: Watcher, raw: Redis, edited: Database, hostile: Any
) -> None:
    async def edit_all() -> None:
        for collection, document in DOCUMENTS.items():
            await edited[collection].insert_one({**document, "organisationId": hostile})
        await _insert("PipelineNodes", edited)

    await _fill(raw)
    await _edited(watcher, edit_all(), len(DOCUMENTS) + 1)
    assert await _removed(raw) == EXACTLY["PipelineNodes"]


async def test_a_bulk_edit_is_dealt_with_at_once(watcher: Watcher, raw: Redis, edited: Database) -> None:
    """Hundreds of pipelines of one project cost a few scans, and leave other projects alone."""
    await _fill(raw)
    await raw.config_resetstat()
    pipelines = [{**DOCUMENTS["Pipelines"], "pipelineId": str(number)} for number in range(300)]
    await _edited(watcher, edited["Pipelines"].insert_many(pipelines), len(pipelines))
    assert await _removed(raw) == _of_project("1", "2")
    assert (await raw.info("commandstats"))["cmdstat_scan"]["calls"] < 100


async def test_keys_are_never_listed_with_keys(watcher: Watcher, raw: Redis, edited: Database) -> None:
    await raw.config_resetstat()
    await _edited(watcher, edited["PipelineNodes"].drop())
    assert "cmdstat_keys" not in await raw.info("commandstats")


async def test_a_catalog_sees_the_edit(
    redis: RedisCache, mongo_url: str, database: Database, make_catalog: MakeCatalog, platform: dict[str, Any]
) -> None:
    """Of this process at once, of another one as soon as it asks Redis."""
    pipeline = platform["collections"]["Pipelines"][0]
    ids = (pipeline["organisationId"], pipeline["projectId"], pipeline["pipelineId"])
    own, other = make_catalog(near_ttl=60), make_catalog(near_ttl=0)
    async with _watching(redis, mongo_url, database.name, own) as watcher:
        assert await own.pipeline(*ids) == await other.pipeline(*ids)
        rename = database["Pipelines"].update_one({"pipelineId": ids[2]}, {"$set": {"pipelineName": "renamed"}})
        await _edited(watcher, rename)
        for catalog in (own, other):
            assert (await catalog.pipeline(*ids) or {})["pipelineName"] == "renamed"


async def test_contents_stay_in_mongodb(
    watcher: Watcher, raw: Redis, edited: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the log nor Redis gets to see a document's other fields; they are not even sent."""
    caplog.set_level("DEBUG", logger="cache")
    secret = "xoxb-planted"
    await _edited(watcher, edited["IntegrationConnectors"].update_one({}, {"$set": {"encryptedCredentials": secret}}))
    await _edited(watcher, edited["IntegrationConnectors"].delete_one({}))
    assert secret not in caplog.text
    state = await raw.hgetall(keys.watch_state(edited.name))
    assert set(state) == {b"term", b"token"}
    assert secret.encode() not in b"".join(state.values())


async def test_the_first_time_everything_is_invalidated_once(
    redis: RedisCache, raw: Redis, mongo_url: str, edited: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """What happened before is not known; the second time it is."""
    await _fill(raw)
    async with _watching(redis, mongo_url, edited.name) as watcher:
        assert await _removed(raw) == CACHED
        assert watcher.full_invalidations == 1
    await _fill(raw)
    async with _watching(redis, mongo_url, edited.name) as watcher:
        assert watcher.full_invalidations == 0
    assert await _removed(raw) == set()
    assert sum("everything cached is invalidated once" in text for text in caplog.messages) == 1


async def test_an_edit_while_nobody_watches_is_not_missed(
    redis: RedisCache, raw: Redis, mongo_url: str, edited: Database
) -> None:
    async with _watching(redis, mongo_url, edited.name) as watcher:
        await _edited(watcher, _update("Projects", edited))
    await _fill(raw)
    await _update("PipelineNodes", edited)
    async with _watching(redis, mongo_url, edited.name) as watcher:
        await _until(watcher, lambda one: one.events > 0)
        assert watcher.events == 1, "what had been dealt with is not dealt with again"
    assert await _removed(raw) == EXACTLY["PipelineNodes"]


async def test_the_token_moves_on_while_nothing_changes(watcher: Watcher, raw: Redis, edited: Database) -> None:
    """In a collection that rests, in a server that does not: otherwise its place in the history is lost some day."""

    async def token() -> bytes:
        found: bytes = await raw.hget(keys.watch_state(edited.name), "token")
        return found

    before = await token()
    await edited["Users"].insert_one({})
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await token() == before:  # noqa: ASYNC110 Redis announces nothing
            await asyncio.sleep(0.05)
    assert watcher.events == 0


async def test_the_lag_is_the_age_of_the_last_change(
    redis: RedisCache, mongo_url: str, edited: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _watching(redis, mongo_url, edited.name) as watcher:
        await _edited(watcher, _update("Projects", edited))
        assert 0 <= watcher.lag_seconds < PATIENCE_SECONDS
        later = time.time() + 100
        monkeypatch.setattr("cache.watcher.time.time", lambda: later)
        await _edited(watcher, _update("Organisations", edited))
        assert 95 <= watcher.lag_seconds < 100 + PATIENCE_SECONDS


async def _watch_too(redis_url: str, mongo_url: str, database: str, **options: Any) -> Watcher:
    redis = RedisCache(redis_url)
    return Watcher(redis, mongo_url, database, Invalidator(redis), **options)


async def _closed(watcher: Watcher) -> None:
    await watcher._redis.aclose()


async def test_one_watches_and_another_takes_over_when_it_stops(
    redis: RedisCache, raw: Redis, redis_url: str, mongo_url: str, edited: Database
) -> None:
    """At once: the lock is let go, not left to expire."""
    second = await _watch_too(redis_url, mongo_url, edited.name, lock_seconds=60)
    second._attempt_seconds = 0.05
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_closed, second)
        async with _watching(redis, mongo_url, edited.name, lock_seconds=60) as first:
            await stack.enter_async_context(second.running())
            await _edited(first, _update("Projects", edited))
            assert not second.watching
        await _until(second, lambda one: one.watching)
        assert not first.watching
        await _fill(raw)
        await _edited(second, _update("PipelineNodes", edited))
        assert second.events == 1
        assert second.full_invalidations == 0
        assert await _removed(raw) == EXACTLY["PipelineNodes"]
        assert json.loads(await raw.hget(keys.watch_state(edited.name), "term")) == 2
    assert not await raw.exists(keys.watch_lock(edited.name))
