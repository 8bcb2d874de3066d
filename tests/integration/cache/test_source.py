"""MongoDB as the cache reads it: the right document, plain JSON, and an error in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from bson import Decimal128, Int64, ObjectId, Regex
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect, OperationFailure

from cache.documents import UnsupportedDocumentError
from cache.source import MongoSource, SourceUnavailableError

Database = AsyncDatabase[dict[str, Any]]


@pytest_asyncio.fixture
async def unreachable() -> AsyncIterator[MongoSource]:
    """A MongoDB where nobody listens."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        "mongodb://user:planted@127.0.0.1:1/?directConnection=true", serverSelectionTimeoutMS=50
    )
    source = MongoSource(client, "nowhere", budget=0.3)
    yield source
    await source.aclose()


async def test_every_document_comes_without_its_id(source: MongoSource, platform: dict[str, Any]) -> None:
    collections = platform["collections"]
    pipeline, target = collections["Pipelines"][0], collections["IntegrationTargets"][1]
    organisation, project = pipeline["organisationId"], pipeline["projectId"]
    connector = collections["IntegrationConnectors"][0]
    read = [
        (await source.organisation(organisation), collections["Organisations"][0]),
        (await source.project(organisation, project), collections["Projects"][0]),
        (await source.pipeline(organisation, project, pipeline["pipelineId"]), pipeline),
        (await source.pipeline_by_code(organisation, project, pipeline["pipelineCode"]), pipeline),
        (await source.target(organisation, project, pipeline["pipelineId"], target["targetId"]), target),
        (await source.connector(organisation, project, connector["connectorId"]), connector),
    ]
    for found, stored in read:
        assert found == {field: value for field, value in stored.items() if field != "_id"}
    assert source.reads == len(read)


async def test_the_nodes_of_a_pipeline_come_by_their_ids(
    source: MongoSource, platform: dict[str, Any], pipeline_ids: tuple[str, str, str]
) -> None:
    assert await source.pipeline_nodes(*pipeline_ids) == {
        node["nodeId"]: node["nodeConfig"] for node in platform["collections"]["PipelineNodes"]
    }
    assert await source.pipeline_nodes(*pipeline_ids[:2], "another") == {}


async def test_a_node_without_an_id_is_nobodys_next_one(
    source: MongoSource, database: Database, pipeline_ids: tuple[str, str, str]
) -> None:
    names = dict(zip(("organisationId", "projectId"), pipeline_ids[:2], strict=True))
    await database["PipelineNodes"].insert_many(
        [{**names, "pipelineId": "p", "nodeId": node_id, "nodeConfig": {}} for node_id in ("a", 7, None)]
        + [{**names, "pipelineId": "p", "nodeConfig": {}}]
    )
    assert await source.pipeline_nodes(*pipeline_ids[:2], "p") == {"a": {}}


@pytest.mark.parametrize("place", range(4))
async def test_another_tenants_document_is_none(
    source: MongoSource, target_ids: tuple[str, str, str, str], place: int
) -> None:
    identifiers = [identifier if index != place else "another" for index, identifier in enumerate(target_ids)]
    assert await source.target(*identifiers) is None


async def test_bson_comes_as_json(source: MongoSource, database: Database) -> None:
    await database["Organisations"].insert_one(
        {"organisationId": "o", "by": ObjectId("6b03e45eaab088bb356790b3"), "n": Int64(5), "d": Decimal128("1.5")}
    )
    assert await source.organisation("o") == {
        "organisationId": "o",
        "by": "6b03e45eaab088bb356790b3",
        "n": 5,
        "d": {"$numberDecimal": "1.5"},
    }


async def test_a_document_that_json_cannot_express_is_named(source: MongoSource, database: Database) -> None:
    await database["Projects"].insert_one({"organisationId": "o", "projectId": "p", "value": Regex("planted")})
    with pytest.raises(UnsupportedDocumentError, match="Projects organisationId=o projectId=p") as refusal:
        await source.project("o", "p")
    assert "planted" not in str(refusal.value)


async def test_where_nobody_listens_the_budget_ends_it_and_the_message_tells_no_password(
    unreachable: MongoSource,
) -> None:
    with pytest.raises(SourceUnavailableError, match="Pipelines organisationId=o projectId=p pipelineId=l") as failure:
        await unreachable.pipeline("o", "p", "l")
    assert "planted" not in repr(failure.value)
    with pytest.raises(SourceUnavailableError, match="ping"):
        await unreachable.ping()


async def test_a_ping_is_answered(source: MongoSource) -> None:
    await source.ping()


class Flaky:
    """A read that fails as it is told before it succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)

    async def __call__(self) -> str:
        """Fail, or succeed once all failures have been had."""
        if self.failures:
            raise self.failures.pop(0)
        return "read"


@pytest.mark.parametrize("failure", [AutoReconnect("reset"), OperationFailure("stepping down", code=189)])
async def test_what_passes_by_itself_is_tried_again(source: MongoSource, failure: Exception) -> None:
    assert await source._read("thing", Flaky(failure, failure)) == "read"


async def test_what_does_not_pass_is_not_tried_again(source: MongoSource) -> None:
    flaky = Flaky(OperationFailure("not allowed: planted", code=13), AutoReconnect("never reached"))
    with pytest.raises(SourceUnavailableError, match="OperationFailure") as failure:
        await source._read("thing", flaky)
    assert len(flaky.failures) == 1
    assert "planted" not in str(failure.value)


async def test_a_read_that_hangs_ends_with_the_budget(unreachable: MongoSource) -> None:
    with pytest.raises(SourceUnavailableError, match="TimeoutError"):
        await unreachable._read("thing", asyncio.Event().wait)
