"""Fixtures of the cache's integration tests: an emptied Redis, a MongoDB with one tenant, and what reads both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from redis.asyncio import Redis

from cache.catalog import Catalog
from cache.redis_cache import RedisCache
from cache.source import MongoSource

SEC_DB = "my-secret-db-key"


@pytest_asyncio.fixture(autouse=True)
async def _one_client() -> AsyncIterator[None]:
    """Whatever a test configured, the next one starts without it."""
    yield
    await RedisCache.reset()


@pytest_asyncio.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    """An ordinary client of an emptied Redis, as other programs have it."""
    async with Redis.from_url(redis_url) as client:
        await client.flushdb()
        yield client


@pytest_asyncio.fixture
async def redis(raw: Redis, redis_url: str) -> RedisCache:
    """The process's Redis client."""
    assert raw
    return RedisCache.configure(redis_url)


@pytest_asyncio.fixture
async def database(
    mongo_url: str, database_name: str, platform: dict[str, Any]
) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """MongoDB with the platform's documents."""
    async with AsyncMongoClient(mongo_url) as client:
        for collection, documents in platform["collections"].items():
            await client[database_name][collection].insert_many([dict(document) for document in documents])
        yield client[database_name]
        await client.drop_database(database_name)


@pytest_asyncio.fixture
async def source(database: AsyncDatabase[dict[str, Any]], mongo_url: str) -> AsyncIterator[MongoSource]:
    """MongoDB as the cache reads it."""
    source = MongoSource.connect(mongo_url, database.name)
    yield source
    await source.aclose()


@pytest_asyncio.fixture
async def make_catalog(redis: RedisCache, source: MongoSource) -> AsyncIterator[Callable[..., Catalog]]:
    """Makes catalogs; all are closed at the end."""
    made: list[Catalog] = []

    def make(**options: Any) -> Catalog:
        catalog = Catalog(options.pop("redis", redis), options.pop("source", source), **{"sec_db": SEC_DB, **options})
        made.append(catalog)
        return catalog

    yield make
    for catalog in made:
        await catalog.aclose()


@pytest.fixture
def pipeline_ids(platform: dict[str, Any]) -> tuple[str, str, str]:
    """Organisation, project and pipeline."""
    pipeline = platform["collections"]["Pipelines"][0]
    return pipeline["organisationId"], pipeline["projectId"], pipeline["pipelineId"]


@pytest.fixture
def target_ids(platform: dict[str, Any], pipeline_ids: tuple[str, str, str]) -> tuple[str, str, str, str]:
    """Organisation, project, pipeline and its first target."""
    return (*pipeline_ids, platform["collections"]["IntegrationTargets"][0]["targetId"])


@pytest.fixture
def connector_ids(platform: dict[str, Any], pipeline_ids: tuple[str, str, str]) -> tuple[str, str, str]:
    """Organisation, project and connector."""
    return (*pipeline_ids[:2], platform["collections"]["IntegrationConnectors"][0]["connectorId"])
