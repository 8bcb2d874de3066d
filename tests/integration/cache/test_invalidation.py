"""Invalidation by level: exactly what changed, in Redis and in this process, and never a neighbour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from redis.asyncio import Redis

from cache import keys
from cache.catalog import Catalog
from cache.invalidation import Invalidator
from cache.keys import InvalidIdentifierError
from cache.redis_cache import RedisCache
from cache.source import MongoSource

MakeCatalog = Callable[..., Catalog]
Database = AsyncDatabase[dict[str, Any]]
Ids = tuple[str, str, str]


def _tree(organisation: str, project: str = "2", pipeline: str = "3") -> set[str]:
    """Every key there is of one pipeline, its project and organisation."""
    return {
        keys.organisation(organisation),
        keys.organisation_secret(organisation),
        keys.project(organisation, project),
        keys.project_secret(organisation, project),
        keys.pipeline_by_code(organisation, project, f"code-{pipeline}"),
        keys.connector(organisation, project, "c"),
        keys.decrypted_connector(organisation, project, "c"),
        *_of_pipeline(organisation, project, pipeline),
    }


def _of_pipeline(organisation: str, project: str, pipeline: str) -> set[str]:
    return {
        keys.pipeline(organisation, project, pipeline),
        keys.workflow(organisation, project, pipeline),
        keys.target(organisation, project, pipeline, "t"),
        keys.target(organisation, project, pipeline, "t1"),
    }


def _everything() -> set[str]:
    """One tenant, its namesakes by beginning, its other projects and pipelines."""
    return {
        *_tree("1"),
        *_tree("10"),
        *_tree("1-"),
        *_tree("1", "20"),
        *_tree("1", "2", "30"),
        keys.connector("1", "2", "c1"),
        keys.decrypted_connector("1", "2", "c1"),
    }


async def _removed(redis: RedisCache, raw: Redis, invalidate: Callable[[Invalidator], Any]) -> set[str]:
    await raw.mset(dict.fromkeys(_everything(), "x"))
    assert await invalidate(Invalidator(redis)) is True
    return _everything() - {name.decode() for name in await raw.keys("*")}


async def test_everything_is_all_organisations_and_nothing_beside_them(redis: RedisCache, raw: Redis) -> None:
    await raw.set(keys.api_key("abc"), "x")
    removed = await _removed(redis, raw, lambda invalidator: invalidator.everything())
    assert removed == _everything()
    assert await raw.get(keys.api_key("abc")) == b"x"


async def test_an_organisation(redis: RedisCache, raw: Redis) -> None:
    removed = await _removed(redis, raw, lambda invalidator: invalidator.organisation("1"))
    assert removed == {name for name in _everything() if f"{name}:".startswith("datanadhiserver:org:1:")}


async def test_a_project(redis: RedisCache, raw: Redis) -> None:
    removed = await _removed(redis, raw, lambda invalidator: invalidator.project("1", "2"))
    assert removed == {name for name in _everything() if f"{name}:".startswith("datanadhiserver:org:1:prj:2:")}


async def test_a_pipeline_whose_code_is_known(redis: RedisCache, raw: Redis) -> None:
    removed = await _removed(
        redis, raw, lambda invalidator: invalidator.pipeline("1", "2", "3", pipeline_code="code-3")
    )
    assert removed == _of_pipeline("1", "2", "3") | {keys.pipeline_by_code("1", "2", "code-3")}


async def test_a_pipeline_whose_code_may_have_changed(redis: RedisCache, raw: Redis) -> None:
    removed = await _removed(redis, raw, lambda invalidator: invalidator.pipeline("1", "2", "3"))
    by_code = {keys.pipeline_by_code("1", "2", code) for code in ("code-3", "code-30")}
    assert removed == _of_pipeline("1", "2", "3") | by_code


async def test_a_workflow(redis: RedisCache, raw: Redis) -> None:
    removed = await _removed(redis, raw, lambda invalidator: invalidator.workflow("1", "2", "3"))
    assert removed == {keys.workflow("1", "2", "3")}


async def test_a_target(redis: RedisCache, raw: Redis) -> None:
    removed = await _removed(redis, raw, lambda invalidator: invalidator.target("1", "2", "3", "t"))
    assert removed == {keys.target("1", "2", "3", "t")}


async def test_a_connector_goes_as_stored_and_decrypted(redis: RedisCache, raw: Redis) -> None:
    removed = await _removed(redis, raw, lambda invalidator: invalidator.connector("1", "2", "c"))
    assert removed == {keys.connector("1", "2", "c"), keys.decrypted_connector("1", "2", "c")}


@pytest.mark.parametrize("hostile", ["1*", "*", "[1]", "1:prj:2", ""])
async def test_a_hostile_identifier_deletes_nothing(redis: RedisCache, raw: Redis, hostile: str) -> None:
    await raw.mset(dict.fromkeys(_everything(), "x"))
    with pytest.raises(InvalidIdentifierError):
        await Invalidator(redis).organisation(hostile)
    with pytest.raises(InvalidIdentifierError):
        await Invalidator(redis).pipeline("1", "2", hostile)
    assert len(await raw.keys("*")) == len(_everything())


async def test_keys_are_found_by_scanning_and_never_with_keys(redis: RedisCache, raw: Redis) -> None:
    await raw.mset({keys.target("1", "2", "3", str(number)): "x" for number in range(3000)})
    await raw.config_resetstat()
    assert await Invalidator(redis).organisation("1")
    commands = await raw.info("commandstats")
    assert "cmdstat_keys" not in commands
    assert commands["cmdstat_unlink"]["calls"] >= 3000 / 1000
    assert await raw.dbsize() == 0


async def _rename(database: Database, ids: Ids, name: str) -> None:
    await database["Pipelines"].update_one({"pipelineId": ids[2]}, {"$set": {"pipelineName": name}})


async def test_this_process_forgets_at_once(
    redis: RedisCache, database: Database, make_catalog: MakeCatalog, pipeline_ids: Ids
) -> None:
    catalog = make_catalog(near_ttl=60)
    await catalog.pipeline(*pipeline_ids)
    await catalog.workflow_json(*pipeline_ids)
    for level in ("pipeline", "project", "organisation"):
        await _rename(database, pipeline_ids, level)
        identifiers = pipeline_ids[: {"pipeline": 3, "project": 2, "organisation": 1}[level]]
        assert await getattr(Invalidator(redis, catalog), level)(*identifiers)
        assert (await catalog.pipeline(*pipeline_ids) or {})["pipelineName"] == level


async def test_what_was_missing_is_found_after_an_invalidation(
    redis: RedisCache, database: Database, make_catalog: MakeCatalog
) -> None:
    catalog = make_catalog(near_ttl=60, negative_ttl=60)
    assert await catalog.organisation("new") is None
    await database["Organisations"].insert_one({"organisationId": "new"})
    await Invalidator(redis, catalog).organisation("new")
    assert await catalog.organisation("new") == {"organisationId": "new"}


class Slow:
    """Reads of MongoDB that wait, with what they read, until they are let go."""

    def __init__(self, source: MongoSource) -> None:
        self.read, self.let_go = asyncio.Event(), asyncio.Event()
        self._pipeline = source.pipeline

    async def pipeline(self, *identifiers: str) -> Any:
        """Read, then wait."""
        document = await self._pipeline(*identifiers)
        self.read.set()
        await self.let_go.wait()
        return document


@pytest.mark.parametrize("own_process", [True, False])
async def test_what_was_read_before_an_invalidation_is_kept_nowhere_after_it(
    redis: RedisCache,
    raw: Redis,
    database: Database,
    source: MongoSource,
    make_catalog: MakeCatalog,
    pipeline_ids: Ids,
    monkeypatch: pytest.MonkeyPatch,
    own_process: bool,
) -> None:
    """Whether this process invalidates or another one, of which it hears nothing."""
    slow = Slow(source)
    monkeypatch.setattr(source, "pipeline", slow.pipeline)
    catalog = make_catalog(near_ttl=60)
    reading = asyncio.create_task(catalog.pipeline(*pipeline_ids))
    await slow.read.wait()
    await _rename(database, pipeline_ids, "renamed")
    await Invalidator(redis, catalog if own_process else None).pipeline(*pipeline_ids)
    slow.let_go.set()
    assert (await reading or {})["pipelineName"] == "orders", "it asked before the edit"
    assert await raw.exists(keys.pipeline(*pipeline_ids)) == 0
    assert catalog.fills_refused == 1
    assert (await catalog.pipeline(*pipeline_ids) or {})["pipelineName"] == "renamed"


async def test_after_an_invalidation_nobody_joins_a_load_from_before_it(
    redis: RedisCache,
    database: Database,
    source: MongoSource,
    make_catalog: MakeCatalog,
    pipeline_ids: Ids,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = Slow(source)
    monkeypatch.setattr(source, "pipeline", slow.pipeline)
    catalog = make_catalog()
    before = asyncio.create_task(catalog.pipeline(*pipeline_ids))
    await slow.read.wait()
    await _rename(database, pipeline_ids, "renamed")
    await Invalidator(redis, catalog).pipeline(*pipeline_ids)
    monkeypatch.undo()
    catalog._families.pipeline = make_catalog()._families.pipeline
    assert (await catalog.pipeline(*pipeline_ids) or {})["pipelineName"] == "renamed"
    slow.let_go.set()
    await before
    assert (await catalog.pipeline(*pipeline_ids) or {})["pipelineName"] == "renamed"


async def test_without_redis_it_says_that_it_was_not_done_and_this_process_forgets_all_the_same(
    redis: RedisCache, database: Database, make_catalog: MakeCatalog, pipeline_ids: Ids
) -> None:
    catalog = make_catalog(near_ttl=60)
    await catalog.pipeline(*pipeline_ids)
    await redis.aclose()
    await _rename(database, pipeline_ids, "renamed")
    invalidator = Invalidator(redis, catalog)
    assert await invalidator.pipeline(*pipeline_ids) is False
    assert await invalidator.connector(*pipeline_ids) is False
    assert (await catalog.pipeline(*pipeline_ids) or {})["pipelineName"] == "renamed"
