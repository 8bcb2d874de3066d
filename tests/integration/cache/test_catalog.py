"""The catalog against real servers: where a read comes from, how often MongoDB is asked, and what is believed."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from redis.asyncio import Redis

from cache import keys
from cache.catalog import Catalog
from cache.crypto import CredentialsError, DecryptionError, seal
from cache.keys import InvalidIdentifierError
from cache.redis_cache import RedisCache
from cache.source import MongoSource

MakeCatalog = Callable[..., Catalog]
Database = AsyncDatabase[dict[str, Any]]
Ids = tuple[str, str, str]

SEC_DB = "my-secret-db-key"


def _identified(pipeline_ids: Ids) -> dict[str, str]:
    return dict(zip(("organisationId", "projectId", "pipelineId"), pipeline_ids, strict=True))


async def _commands(raw: Redis) -> dict[str, int]:
    """How many commands of each kind the server has run, but for our own asking."""
    statistics = await raw.info("commandstats")
    return {
        name.removeprefix("cmdstat_"): numbers["calls"]
        for name, numbers in statistics.items()
        if not name.startswith(("cmdstat_config", "cmdstat_info"))
    }


async def test_a_read_goes_to_mongodb_then_redis_then_memory(
    make_catalog: MakeCatalog, source: MongoSource, pipeline_ids: Ids
) -> None:
    seen: list[tuple[str, str]] = []
    first = make_catalog(observe=lambda family, outcome: seen.append((family, outcome)))
    another_process = make_catalog(observe=lambda family, outcome: seen.append((family, outcome)))
    documents = [await catalog.pipeline(*pipeline_ids) for catalog in (first, another_process, another_process)]
    assert [outcome for _, outcome in seen] == ["miss", "hit", "near"]
    assert {family for family, _ in seen} == {"pipeline"}
    assert documents[0] == documents[1] == documents[2]
    assert source.reads == 1


async def test_a_warm_message_costs_four_gets_and_nothing_else(
    make_catalog: MakeCatalog, raw: Redis, source: MongoSource, target_ids: Any, connector_ids: Ids
) -> None:
    catalog = make_catalog(near_ttl=0)

    async def message() -> None:
        await catalog.pipeline(*target_ids[:3])
        await catalog.workflow_json(*target_ids[:3])
        await catalog.target(*target_ids)
        await catalog.connector(*connector_ids)

    await message()
    reads = source.reads
    await raw.config_resetstat()
    await message()
    assert await _commands(raw) == {"get": 4}
    assert source.reads == reads


async def test_a_document_is_new_for_every_caller(make_catalog: MakeCatalog, pipeline_ids: Ids) -> None:
    catalog = make_catalog()
    spoilt = await catalog.pipeline(*pipeline_ids)
    assert spoilt is not None
    spoilt.clear()
    assert (await catalog.pipeline(*pipeline_ids) or {})["startNodeId"] == "a1"


async def test_the_nodes_are_the_same_bytes_as_long_as_memory_has_them(
    make_catalog: MakeCatalog, pipeline_ids: Ids
) -> None:
    """What is compiled from them can be kept by them."""
    catalog = make_catalog()
    nodes = await catalog.workflow_json(*pipeline_ids)
    assert await catalog.workflow_json(*pipeline_ids) is nodes
    assert await catalog.workflow(*pipeline_ids) == json.loads(nodes)
    assert list(json.loads(nodes)) == ["a1", "b1", "b2", "c1", "d1", "d2"]


async def test_a_thousand_concurrent_misses_are_one_read_of_mongodb(
    make_catalog: MakeCatalog, source: MongoSource, pipeline_ids: Ids
) -> None:
    catalog = make_catalog(near_ttl=0)
    documents = await asyncio.gather(*(catalog.pipeline(*pipeline_ids) for _ in range(1000)))
    assert all(document == documents[0] for document in documents)
    assert source.reads == 1


class SlowPipelines:
    """A MongoDB that answers when it is let go."""

    def __init__(self, source: MongoSource) -> None:
        self.asked, self.let_go = asyncio.Event(), asyncio.Event()
        self._find_one = source._database["Pipelines"].find_one

    async def find_one(self, *arguments: Any) -> Any:
        """Wait, then read."""
        self.asked.set()
        await self.let_go.wait()
        return await self._find_one(*arguments)


@pytest.fixture
def slow(source: MongoSource, monkeypatch: pytest.MonkeyPatch) -> SlowPipelines:
    """The source, reading pipelines slowly."""
    slow = SlowPipelines(source)
    monkeypatch.setattr(source, "_database", {"Pipelines": slow})
    return slow


async def test_a_caller_who_is_cancelled_harms_no_other(
    make_catalog: MakeCatalog, source: MongoSource, slow: SlowPipelines, pipeline_ids: Ids
) -> None:
    catalog = make_catalog()
    callers = [asyncio.create_task(catalog.pipeline(*pipeline_ids)) for _ in range(10)]
    await slow.asked.wait()
    for caller in callers[:9]:
        caller.cancel()
    await asyncio.gather(*callers[:9], return_exceptions=True)
    assert all(caller.cancelled() for caller in callers[:9])
    slow.let_go.set()
    assert (await callers[9] or {})["startNodeId"] == "a1"
    assert source.reads == 1


async def test_when_all_callers_left_the_load_still_fills_the_cache(
    make_catalog: MakeCatalog, raw: Redis, slow: SlowPipelines, pipeline_ids: Ids
) -> None:
    catalog = make_catalog()
    caller = asyncio.create_task(catalog.pipeline(*pipeline_ids))
    await slow.asked.wait()
    (flight,) = catalog._reader._flights.airborne
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    slow.let_go.set()
    await flight
    assert await raw.exists(keys.pipeline(*pipeline_ids))


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"organisationId":"o","projectId":"p","pipelineId":"another","startNodeId":"x"}',
    ],
)
async def test_a_value_that_is_not_the_document_of_its_key_is_a_miss_and_overwritten(
    make_catalog: MakeCatalog, raw: Redis, pipeline_ids: Ids, garbage: bytes
) -> None:
    name = keys.pipeline(*pipeline_ids)
    await raw.set(name, garbage)
    document = await make_catalog().pipeline(*pipeline_ids)
    assert (document or {})["startNodeId"] == "a1"
    assert json.loads(await raw.get(name)) == document
    assert 3000 < await raw.ttl(name) <= 3600


async def test_a_key_of_another_type_is_a_miss_and_overwritten(
    make_catalog: MakeCatalog, raw: Redis, redis: RedisCache, pipeline_ids: Ids
) -> None:
    await raw.lpush(keys.pipeline(*pipeline_ids), "x")
    assert await make_catalog().pipeline(*pipeline_ids) is not None
    assert await raw.type(keys.pipeline(*pipeline_ids)) == b"string"
    assert redis.state == "closed"


async def test_another_tenants_document_under_our_key_is_not_ours(
    make_catalog: MakeCatalog, raw: Redis, connector_ids: Ids
) -> None:
    theirs = {"organisationId": "theirs", "projectId": "p", "connectorId": "c", "creds": {"token": "theirs"}}
    await raw.set(keys.decrypted_connector(*connector_ids), orjson.dumps(theirs))
    connector = await make_catalog().connector(*connector_ids)
    assert (connector or {})["creds"] == {"slackBotToken": "xoxb-held-out"}


async def test_a_pipeline_without_start_in_redis_is_read_again_before_it_is_believed(
    make_catalog: MakeCatalog, raw: Redis, source: MongoSource, pipeline_ids: Ids
) -> None:
    """The servers cache a pipeline when it is made, and it has its start node later."""
    await raw.set(keys.pipeline(*pipeline_ids), orjson.dumps({**_identified(pipeline_ids), "active": True}))
    catalog = make_catalog(near_ttl=0)
    for _ in range(3):
        assert (await catalog.pipeline(*pipeline_ids) or {})["startNodeId"] == "a1"
    assert source.reads == 1


async def test_a_pipeline_that_has_no_start_is_believed_for_a_few_seconds(
    make_catalog: MakeCatalog, database: Database, source: MongoSource, pipeline_ids: Ids
) -> None:
    await database["Pipelines"].update_one(_identified(pipeline_ids), {"$unset": {"startNodeId": ""}})
    catalog = make_catalog(near_ttl=0)
    for _ in range(3):
        document = await catalog.pipeline(*pipeline_ids)
        assert document is not None
        assert "startNodeId" not in document
    assert source.reads == 1


async def test_what_is_missing_is_remembered_a_few_seconds_in_the_process_alone(
    make_catalog: MakeCatalog, raw: Redis, database: Database, source: MongoSource
) -> None:
    outcomes: list[str] = []
    catalog = make_catalog(observe=lambda _family, outcome: outcomes.append(outcome))
    assert await catalog.pipeline("o", "p", "l") is None
    assert await catalog.pipeline("o", "p", "l") is None
    assert outcomes == ["miss", "negative"]
    assert source.reads == 1
    assert await raw.exists(keys.pipeline("o", "p", "l")) == 0
    await database["Pipelines"].insert_one({**_identified(("o", "p", "l")), "startNodeId": "a"})
    assert await make_catalog(negative_ttl=0).pipeline("o", "p", "l") is not None


async def test_a_pipeline_without_nodes_is_an_empty_object_that_is_cached_nowhere_for_long(
    make_catalog: MakeCatalog, raw: Redis
) -> None:
    catalog = make_catalog()
    assert await catalog.workflow("o", "p", "l") == {}
    assert await catalog.workflow_json("o", "p", "l") == b"{}"
    assert await raw.exists(keys.workflow("o", "p", "l")) == 0


async def test_an_empty_object_that_somebody_cached_is_no_answer(
    make_catalog: MakeCatalog, raw: Redis, pipeline_ids: Ids
) -> None:
    await raw.set(keys.workflow(*pipeline_ids), "{}")
    assert len(await make_catalog().workflow(*pipeline_ids)) == 6


@pytest.mark.parametrize("hostile", ["*", "a:b", "[a]", "a\n", "x" * 10_240, "\u0430", {"$ne": 1}])
async def test_a_hostile_identifier_reaches_neither_server(
    make_catalog: MakeCatalog, raw: Redis, source: MongoSource, hostile: Any
) -> None:
    catalog = make_catalog()
    await raw.config_resetstat()
    for read in (
        catalog.pipeline("o", "p", hostile),
        catalog.target("o", hostile, "l", "t"),
        catalog.connector(hostile, "p", "c"),
        catalog.organisation_secret(hostile),
    ):
        with pytest.raises(InvalidIdentifierError):
            await read
    assert await _commands(raw) == {}
    assert source.reads == 0


async def test_credentials_come_decrypted_and_go_to_redis_as_the_contract_has_them(
    make_catalog: MakeCatalog, raw: Redis, connector_ids: Ids
) -> None:
    connector = await make_catalog().connector(*connector_ids)
    assert (connector or {})["creds"] == {"slackBotToken": "xoxb-held-out"}
    assert json.loads(await raw.get(keys.decrypted_connector(*connector_ids))) == connector


async def test_rejected_credentials_are_read_anew_whatever_is_cached(
    make_catalog: MakeCatalog, raw: Redis, database: Database, source: MongoSource, connector_ids: Ids
) -> None:
    catalog = make_catalog(near_ttl=60)
    await catalog.connector(*connector_ids)
    renewed = seal('{"slackBotToken":"xoxb-renewed"}', SEC_DB)
    await database["IntegrationConnectors"].update_one(
        {"connectorId": connector_ids[2]}, {"$set": {"encryptedCredentials": renewed}}
    )
    reads = source.reads
    fresh = await asyncio.gather(*(catalog.connector(*connector_ids, refresh=True) for _ in range(20)))
    assert all((connector or {})["creds"] == {"slackBotToken": "xoxb-renewed"} for connector in fresh)
    assert source.reads == reads + 1, "many deliveries are rejected at once; MongoDB is read once"
    assert ((await catalog.connector(*connector_ids)) or {})["creds"] == {"slackBotToken": "xoxb-renewed"}
    assert b"xoxb-renewed" in await raw.get(keys.decrypted_connector(*connector_ids))
    assert await catalog.connector("o", "p", "c", refresh=True) is None


@pytest.mark.parametrize(
    "stored",
    [
        {"encryptedCredentials": seal('{"token":"planted"}', "planted-other-secret")},
        {"encryptedCredentials": seal("planted, no JSON", SEC_DB)},
        {"encryptedCredentials": seal('"planted"', SEC_DB)},
        {"encryptedCredentials": "planted"},
        {"encryptedCredentials": None},
        {},
    ],
)
async def test_credentials_that_cannot_be_used_are_named_and_never_shown(
    make_catalog: MakeCatalog, database: Database, raw: Redis, stored: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await database["IntegrationConnectors"].insert_one(
        {"organisationId": "o", "projectId": "p", "connectorId": "c", **stored}
    )
    with pytest.raises(CredentialsError, match="o/p/c") as refusal:
        await make_catalog().connector("o", "p", "c")
    assert isinstance(refusal.value, DecryptionError)
    error: BaseException | None = refusal.value
    while error is not None:
        assert "planted" not in repr(error)
        error = None if error.__suppress_context__ else error.__context__
    assert "planted" not in caplog.text
    assert await raw.exists(keys.decrypted_connector("o", "p", "c")) == 0


async def test_secrets_are_bare_strings(make_catalog: MakeCatalog, raw: Redis, pipeline_ids: Ids) -> None:
    catalog = make_catalog()
    organisation_id, project_id, _ = pipeline_ids
    assert await catalog.organisation_secret(organisation_id) == "QST4ZgziKZy7cH5"
    assert await catalog.project_secret(organisation_id, project_id) == "glp9CQHBB7mEBL2"
    assert await raw.get(keys.organisation_secret(organisation_id)) == b"QST4ZgziKZy7cH5"
    assert await catalog.organisation_secret("nobody") is None


NONCE, GLOBAL = "DataNadhi", "my-global-root-key"
ORGANISATION_SECRET, PROJECT_SECRET = "QST4ZgziKZy7cH5", "glp9CQHBB7mEBL2"


def _api_key(
    ids: Ids,
    *,
    nonce: str = NONCE,
    project: str = PROJECT_SECRET,
    organisation: str = ORGANISATION_SECRET,
    outermost: str = GLOBAL,
    joint: str = "|",
) -> str:
    innermost = seal(nonce, project)
    middle = seal(f"{innermost}{joint}{ids[1]}", organisation)
    return b64encode(seal(f"{middle}|{ids[0]}", outermost).encode()).decode()


def _checking(make_catalog: MakeCatalog, **options: Any) -> Catalog:
    return make_catalog(**{"sec_global": GLOBAL, "nonce_value": NONCE, **options})


async def test_an_api_key_belongs_to_whose_secrets_sealed_it(
    make_catalog: MakeCatalog, source: MongoSource, pipeline_ids: Ids
) -> None:
    catalog = _checking(make_catalog, near_ttl=0)
    api_key = _api_key(pipeline_ids)
    for _ in range(2):
        owner = await catalog.api_key(api_key)
        assert owner is not None
        assert (owner.organisation_id, owner.project_id) == pipeline_ids[:2]
    assert source.reads == 2, "the two secrets, once"


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "DataNadhj"},
        {"nonce": ""},
        {"project": "another"},
        {"organisation": "another"},
        {"outermost": "another"},
        {"joint": "/"},
    ],
)
async def test_one_wrong_layer_is_a_refusal_that_is_remembered(
    make_catalog: MakeCatalog, raw: Redis, pipeline_ids: Ids, wrong: dict[str, str]
) -> None:
    catalog = _checking(make_catalog, near_ttl=0)
    api_key = _api_key(pipeline_ids, **wrong)
    assert await catalog.api_key(api_key) is None
    assert json.loads(await raw.get(keys.api_key(api_key))) == {"failure": True}
    assert 120 < await raw.ttl(keys.api_key(api_key)) <= 150
    outcomes: list[str] = []
    again = _checking(make_catalog, observe=lambda _family, outcome: outcomes.append(outcome))
    assert await again.api_key(api_key) is None
    assert outcomes == ["hit"]


@pytest.mark.parametrize("owner", [("nobody", "p"), ("o:*", "p"), ("", "p")])
async def test_an_api_key_of_nobody_is_refused(make_catalog: MakeCatalog, owner: tuple[str, str]) -> None:
    assert await _checking(make_catalog).api_key(_api_key((*owner, ""))) is None


@pytest.mark.parametrize("text", ["", "*", "a:b", "nonsense", "QUJD", "x" * 5000, None])
async def test_what_is_no_api_key_is_refused_without_an_error(make_catalog: MakeCatalog, text: Any) -> None:
    assert await _checking(make_catalog).api_key(text) is None


async def test_without_its_secrets_no_api_key_is_accepted(make_catalog: MakeCatalog, pipeline_ids: Ids) -> None:
    """An unset secret is the empty one, which anybody can seal with."""
    forged = _api_key(pipeline_ids, outermost="", nonce="")
    for options in ({"sec_global": ""}, {"nonce_value": ""}, {"sec_global": "", "nonce_value": ""}):
        with pytest.raises(CredentialsError, match="not set"):
            await _checking(make_catalog, **options).api_key(forged)


async def test_a_secret_of_ours_that_cannot_be_opened_is_no_refusal(
    make_catalog: MakeCatalog, raw: Redis, pipeline_ids: Ids
) -> None:
    api_key = _api_key(pipeline_ids)
    with pytest.raises(CredentialsError, match=pipeline_ids[0]):
        await _checking(make_catalog, sec_db="misconfigured").api_key(api_key)
    assert await raw.exists(keys.api_key(api_key)) == 0


async def test_an_api_key_shows_in_no_log_and_no_error(
    make_catalog: MakeCatalog, pipeline_ids: Ids, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="cache")
    api_key = _api_key(pipeline_ids)
    with pytest.raises(CredentialsError) as refusal:
        await _checking(make_catalog, sec_db="misconfigured").api_key(api_key)
    await _checking(make_catalog).api_key(api_key)
    assert api_key not in caplog.text + repr(refusal.value)


async def test_every_read_is_observed_once(make_catalog: MakeCatalog, pipeline_ids: Ids) -> None:
    seen: Counter[str] = Counter()
    catalog = make_catalog(observe=lambda family, _outcome: seen.update([family]))
    await asyncio.gather(*(catalog.pipeline(*pipeline_ids) for _ in range(50)))
    for _ in range(50):
        await catalog.pipeline(*pipeline_ids)
    assert seen == {"pipeline": 100}


async def test_a_read_that_memory_does_not_answer_is_observed_with_the_seconds_it_took(
    make_catalog: MakeCatalog, redis: RedisCache, pipeline_ids: Ids
) -> None:
    seen: list[tuple[str, str]] = []

    def observe_seconds(family: str, outcome: str, seconds: float) -> None:
        assert 0 < seconds < 60
        seen.append((family, outcome))

    catalog = make_catalog(observe_seconds=observe_seconds, near_ttl=0)
    remembering = make_catalog(observe_seconds=observe_seconds)
    for reading in (catalog, catalog, remembering, remembering):
        await reading.pipeline(*pipeline_ids)
    await catalog.connector("o", "p", "c", refresh=True)
    await redis.aclose()
    await catalog.pipeline(*pipeline_ids)
    assert seen == [
        ("pipeline", "miss"),
        ("pipeline", "hit"),
        ("pipeline", "hit"),  # the second of these two was a near hit
        ("decrypted_connector", "miss"),
        ("pipeline", "bypass"),
    ]


async def test_a_read_that_fails_is_observed_as_well(
    make_catalog: MakeCatalog, database: Database, connector_ids: Ids
) -> None:
    await database["IntegrationConnectors"].update_many({}, {"$set": {"encryptedCredentials": "no credentials"}})
    seen: list[str] = []
    catalog = make_catalog(observe=lambda _family, outcome: seen.append(outcome))
    for refresh in (False, True):
        with pytest.raises(CredentialsError):
            await catalog.connector(*connector_ids, refresh=refresh)
    assert seen == ["miss", "miss"]


def test_a_catalog_shows_no_secret_of_its_own() -> None:
    assert "planted" not in repr(vars(vars(_offline_catalog())["_families"]))


def _offline_catalog() -> Catalog:
    redis: Any = None

    class Source:
        def __getattr__(self, name: str) -> None:
            return None

    source: Any = Source()
    return Catalog(redis, source, sec_db="planted", sec_global="planted", nonce_value="planted")
