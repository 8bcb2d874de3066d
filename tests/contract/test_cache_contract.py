"""The cache's contract with the platform's servers: same keys, same values, same times to live, both ways."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from cache import keys
from cache.api_keys import Owner
from cache.catalog import Catalog
from cache.keys import Family
from cache.redis_cache import RedisCache
from cache.source import MongoSource, SourceUnavailableError


@pytest_asyncio.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    """An ordinary client of an emptied Redis, as the servers have it."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        await client.flushdb()
        yield client


@pytest_asyncio.fixture
async def redis(raw: Redis, redis_url: str) -> AsyncIterator[RedisCache]:
    assert raw
    yield RedisCache.configure(redis_url)
    await RedisCache.reset()


@pytest_asyncio.fixture
async def source(mongo_url: str, database_name: str, platform: dict[str, Any]) -> AsyncIterator[MongoSource]:
    """MongoDB with the platform's documents."""
    async with AsyncMongoClient(mongo_url) as client:
        for collection, documents in platform["collections"].items():
            await client[database_name][collection].insert_many([dict(document) for document in documents])
        source = MongoSource.connect(mongo_url, database_name)
        yield source
        await source.aclose()
        await client.drop_database(database_name)


@pytest_asyncio.fixture
async def unreachable() -> AsyncIterator[MongoSource]:
    """A MongoDB that nobody may need."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        "mongodb://127.0.0.1:1/?directConnection=true", serverSelectionTimeoutMS=1
    )
    source = MongoSource(client, "nowhere", budget=0.1)
    yield source
    await source.aclose()


def _catalog(redis: RedisCache, source: MongoSource, platform: dict[str, Any]) -> Catalog:
    environment = platform["env"]
    return Catalog(
        redis,
        source,
        sec_db=environment["SEC_DB"],
        sec_global=environment["SEC_GLOBAL"],
        nonce_value=environment["NONCE_VALUE"],
    )


def _api_key(platform: dict[str, Any]) -> str:
    return next(name for name in platform["redis"] if ":apikey:" in name).rpartition(":")[2]


def _reads(catalog: Catalog, platform: dict[str, Any]) -> list[Callable[[], Awaitable[Any]]]:
    """Every read there is of the platform's documents."""
    collections = platform["collections"]
    pipeline = collections["Pipelines"][0]
    organisation_id, project_id = pipeline["organisationId"], pipeline["projectId"]
    pipeline_id = pipeline["pipelineId"]
    connector_id = collections["IntegrationConnectors"][0]["connectorId"]
    targets = [target["targetId"] for target in collections["IntegrationTargets"]]
    return [
        lambda: catalog.organisation(organisation_id),
        lambda: catalog.project(organisation_id, project_id),
        lambda: catalog.pipeline(organisation_id, project_id, pipeline_id),
        lambda: catalog.pipeline_by_code(organisation_id, project_id, pipeline["pipelineCode"]),
        lambda: catalog.workflow(organisation_id, project_id, pipeline_id),
        lambda: catalog.connector(organisation_id, project_id, connector_id),
        lambda: catalog.stored_connector(organisation_id, project_id, connector_id),
        lambda: catalog.target(organisation_id, project_id, pipeline_id, targets[0]),
        lambda: catalog.target(organisation_id, project_id, pipeline_id, targets[1]),
        lambda: catalog.organisation_secret(organisation_id),
        lambda: catalog.project_secret(organisation_id, project_id),
        lambda: catalog.api_key(_api_key(platform)),
    ]


def _plain(value: str) -> Any:
    """A cached value as it is meant: a bare string, or a document but for the `_id` that the servers leave in."""
    try:
        document = json.loads(value)
    except json.JSONDecodeError:
        return value
    document.pop("_id", None)
    return document


async def test_it_fills_the_very_keys_and_values_that_the_servers_fill(
    raw: Redis, redis: RedisCache, source: MongoSource, platform: dict[str, Any]
) -> None:
    for read in _reads(_catalog(redis, source, platform), platform):
        await read()
    filled = {name: _plain(await raw.get(name)) for name in await raw.keys("*")}
    assert filled == {name: _plain(cached["value"]) for name, cached in platform["redis"].items()}


async def test_it_keeps_what_it_fills_as_long_as_the_table_says_and_at_most_a_tenth_shorter(
    raw: Redis, redis: RedisCache, source: MongoSource, platform: dict[str, Any]
) -> None:
    catalog = _catalog(redis, source, platform)
    for read in _reads(catalog, platform):
        await read()
    assert await catalog.api_key("QUJD") is None
    expected = {name: _table_ttl(name) for name in platform["redis"]} | {"datanadhiserver:apikey:QUJD": 150}
    for name, ttl in expected.items():
        assert 0.9 * ttl - 5 <= await raw.ttl(name) <= ttl


def _table_ttl(name: str) -> int:
    if ":apikey:" in name:
        return 300
    if name.endswith((":secret", ":workflow", ":decrypted")) or ":it:" in name or ":pl:" in name:
        return 3600
    return 1800


async def test_it_reads_all_that_the_servers_cached_and_asks_mongodb_for_nothing(
    raw: Redis, redis: RedisCache, unreachable: MongoSource, platform: dict[str, Any]
) -> None:
    for name, cached in platform["redis"].items():
        await raw.set(name, cached["value"], ex=cached["ttl"])
    reads = _reads(_catalog(redis, unreachable, platform), platform)
    owner = platform["collections"]["Pipelines"][0]
    for read in reads:
        value = await read()
        assert value is not None
        assert not isinstance(value, dict) or "_id" not in value
    assert value == Owner(owner["organisationId"], owner["projectId"])
    assert unreachable.reads == 0


async def test_a_refusal_that_the_servers_cached_is_a_refusal(
    raw: Redis, redis: RedisCache, unreachable: MongoSource, platform: dict[str, Any]
) -> None:
    await raw.set(keys.api_key("QUJD"), '{"failure": true}', ex=150)
    assert await _catalog(redis, unreachable, platform).api_key("QUJD") is None


async def test_an_unreachable_mongodb_is_missed_only_where_nothing_is_cached(
    redis: RedisCache, unreachable: MongoSource, platform: dict[str, Any]
) -> None:
    """The counterpart: these reads do need MongoDB, so that the test before this one shows something."""
    for read in _reads(_catalog(redis, unreachable, platform), platform):
        with pytest.raises(SourceUnavailableError):
            await read()


def test_the_table_of_times_to_live() -> None:
    assert {family.label: family.ttl_seconds for family in Family} == {
        "api_key": 300,
        "organisation": 1800,
        "project": 1800,
        "pipeline_by_code": 1800,
        "pipeline": 3600,
        "workflow": 3600,
        "decrypted_connector": 3600,
        "connector": 1800,
        "target": 3600,
        "organisation_secret": 3600,
        "project_secret": 3600,
    }
