"""Credentials and secrets sealed in Redis: what lies there, who can read it, and what a value that does not open is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from redis.asyncio import Redis

from cache import keys, leases
from cache.catalog import Catalog
from cache.crypto import seal
from cache.sealing import PREFIX, Sealer
from cache.source import MongoSource

MakeCatalog = Callable[..., Catalog]
Database = AsyncDatabase[dict[str, Any]]
Ids = tuple[str, str, str]

SEC_DB = "my-secret-db-key"
TOKEN = "xoxb-held-out"
ORGANISATION_SECRET, PROJECT_SECRET = "QST4ZgziKZy7cH5", "glp9CQHBB7mEBL2"
PLANTED = [planted.encode() for planted in (TOKEN, ORGANISATION_SECRET, PROJECT_SECRET)]


async def _read_everything(catalog: Catalog, connector_ids: Ids, target_ids: tuple[str, ...]) -> None:
    organisation_id, project_id, pipeline_id, target_id = target_ids
    connector = await catalog.connector(*connector_ids)
    assert (connector or {})["creds"] == {"slackBotToken": TOKEN}
    assert await catalog.organisation_secret(organisation_id) == ORGANISATION_SECRET
    assert await catalog.project_secret(organisation_id, project_id) == PROJECT_SECRET
    assert await catalog.stored_connector(*connector_ids)
    assert await catalog.organisation(organisation_id)
    assert await catalog.project(organisation_id, project_id)
    assert await catalog.pipeline(organisation_id, project_id, pipeline_id)
    assert await catalog.workflow(organisation_id, project_id, pipeline_id)
    assert await catalog.target(organisation_id, project_id, pipeline_id, target_id)


async def _everything_in(raw: Redis) -> dict[bytes, bytes]:
    return {name: await raw.get(name) async for name in raw.scan_iter("*")}


async def test_with_a_key_no_credential_is_in_any_byte_of_redis(
    make_catalog: MakeCatalog, raw: Redis, source: MongoSource, connector_ids: Ids, target_ids: Any
) -> None:
    sealer = Sealer(["one"])
    await _read_everything(make_catalog(sealer=sealer), connector_ids, target_ids)
    found = await _everything_in(raw)
    assert len(found) == 9
    everything = b"".join(name + value for name, value in found.items())
    assert not [planted for planted in PLANTED if planted in everything]
    sealed = {name.decode() for name, value in found.items() if value.startswith(PREFIX)}
    assert sealed == {
        keys.decrypted_connector(*connector_ids),
        keys.organisation_secret(target_ids[0]),
        keys.project_secret(*target_ids[:2]),
    }
    reads = source.reads
    await _read_everything(make_catalog(sealer=sealer), connector_ids, target_ids)
    assert source.reads == reads, "all of it is read back"


async def test_without_a_key_values_are_plain_as_the_servers_keep_them(
    make_catalog: MakeCatalog, raw: Redis, connector_ids: Ids, target_ids: Any
) -> None:
    catalog = make_catalog()
    await _read_everything(catalog, connector_ids, target_ids)
    name = keys.decrypted_connector(*connector_ids)
    assert json.loads(await raw.get(name)) == await catalog.connector(*connector_ids)
    assert await raw.get(keys.organisation_secret(target_ids[0])) == ORGANISATION_SECRET.encode()
    assert await raw.get(keys.project_secret(*target_ids[:2])) == PROJECT_SECRET.encode()
    assert not [value for value in (await _everything_in(raw)).values() if value.startswith(PREFIX)]


async def test_a_value_that_was_not_sealed_is_read_by_a_worker_that_seals(
    make_catalog: MakeCatalog, source: MongoSource, connector_ids: Ids, target_ids: Any
) -> None:
    await _read_everything(make_catalog(), connector_ids, target_ids)
    reads = source.reads
    await _read_everything(make_catalog(sealer=Sealer(["one"])), connector_ids, target_ids)
    assert source.reads == reads


async def test_a_sealed_value_copied_to_another_connectors_key_is_a_miss_and_overwritten(
    make_catalog: MakeCatalog, raw: Redis, database: Database, source: MongoSource, connector_ids: Ids
) -> None:
    theirs = {"organisationId": connector_ids[0], "projectId": connector_ids[1], "connectorId": "theirs"}
    credentials = {"encryptedCredentials": seal('{"slackBotToken":"xoxb-theirs"}', SEC_DB)}
    await database["IntegrationConnectors"].insert_one({**theirs, **credentials})
    catalog = make_catalog(sealer=Sealer(["one"]), near_ttl=0)
    assert await catalog.connector(*connector_ids)
    ours, other = keys.decrypted_connector(*connector_ids), keys.decrypted_connector(*connector_ids[:2], "theirs")
    copied = await raw.get(ours)
    await raw.set(other, copied)
    reads = source.reads
    for _ in range(2):
        assert ((await catalog.connector(*connector_ids[:2], "theirs")) or {})["creds"] == {
            "slackBotToken": "xoxb-theirs"
        }
    assert source.reads == reads + 1
    assert await raw.get(other) not in {copied, None}


async def test_a_secret_copied_to_another_projects_key_is_not_that_projects_secret(
    make_catalog: MakeCatalog, raw: Redis, target_ids: Any
) -> None:
    """A bare string names nobody: that it is bound to its key is all that tells whose it is."""
    catalog = make_catalog(sealer=Sealer(["one"]), near_ttl=0)
    assert await catalog.project_secret(*target_ids[:2]) == PROJECT_SECRET
    await raw.copy(keys.project_secret(*target_ids[:2]), keys.project_secret(target_ids[0], "another"))
    assert await catalog.project_secret(target_ids[0], "another") is None


async def test_keys_rotate_what_the_old_one_sealed_is_read_and_what_is_stored_is_sealed_with_the_newest(
    make_catalog: MakeCatalog, raw: Redis, source: MongoSource, connector_ids: Ids
) -> None:
    name = keys.decrypted_connector(*connector_ids)
    document = await make_catalog(sealer=Sealer(["old"])).connector(*connector_ids)
    rotated = make_catalog(sealer=Sealer(["new", "old"]), near_ttl=0)
    reads = source.reads
    assert await rotated.connector(*connector_ids) == document
    assert source.reads == reads
    await raw.delete(name)
    assert await rotated.connector(*connector_ids) == document
    assert json.loads(Sealer(["new"]).open(name, await raw.get(name))) == document


@pytest.mark.parametrize("other", [Sealer(["another"]), None], ids=["another key", "no key"])
async def test_a_value_sealed_under_a_key_that_a_worker_lacks_is_a_miss_and_overwritten(
    make_catalog: MakeCatalog,
    raw: Redis,
    source: MongoSource,
    connector_ids: Ids,
    target_ids: Any,
    other: Sealer | None,
) -> None:
    """Also a secret, which may be any text: what is sealed is not taken for one."""
    await _read_everything(make_catalog(sealer=Sealer(["one"])), connector_ids, target_ids)
    before = await _everything_in(raw)
    reads = source.reads
    await _read_everything(make_catalog(sealer=other), connector_ids, target_ids)
    assert source.reads == reads + 3, "the connector and the two secrets, none of the others"
    after = await _everything_in(raw)
    name = keys.decrypted_connector(*connector_ids)
    assert before[name.encode()] != after[name.encode()]
    assert json.loads((other or Sealer()).open(name, after[name.encode()]))["creds"] == {"slackBotToken": TOKEN}


async def test_a_value_stored_in_plain_half_way_through_a_roll_out_is_overwritten_no_more(
    make_catalog: MakeCatalog, source: MongoSource, connector_ids: Ids
) -> None:
    """The worker without the key stores its own; the one with it reads that: they do not take turns for ever."""
    with_key = make_catalog(sealer=Sealer(["one"]), near_ttl=0)
    without = make_catalog(near_ttl=0)
    for _ in range(5):
        assert await with_key.connector(*connector_ids) == await without.connector(*connector_ids)
    assert source.reads == 2


@pytest.mark.parametrize("openable", [True, False])
async def test_a_sealed_value_that_another_worker_stored_meanwhile_is_opened_too(
    make_catalog: MakeCatalog,
    raw: Redis,
    source: MongoSource,
    connector_ids: Ids,
    monkeypatch: pytest.MonkeyPatch,
    openable: bool,
) -> None:
    """The lease answers with what it finds: sealed, and no answer to whom it does not open."""
    name, sealer = keys.decrypted_connector(*connector_ids), Sealer(["one"])
    document = await make_catalog(sealer=sealer if openable else Sealer(["another"])).connector(*connector_ids)
    stored, reads = await raw.getdel(name), source.reads
    take = leases.take

    async def meanwhile(*arguments: Any) -> Any:
        await raw.set(name, stored)
        return await take(*arguments)

    monkeypatch.setattr(leases, "take", meanwhile)
    assert await make_catalog(sealer=sealer).connector(*connector_ids) == document
    assert source.reads == reads + (0 if openable else 1)


async def test_memory_serves_what_was_sealed_while_both_servers_are_asked_nothing(
    make_catalog: MakeCatalog, raw: Redis, source: MongoSource, connector_ids: Ids
) -> None:
    catalog = make_catalog(sealer=Sealer(["one"]), near_ttl=60)
    document = await catalog.connector(*connector_ids)
    reads = source.reads
    await raw.flushdb()
    assert await catalog.connector(*connector_ids) == document
    assert source.reads == reads


async def test_a_wrong_key_is_logged_once_and_shows_nothing(
    make_catalog: MakeCatalog, raw: Redis, connector_ids: Ids, caplog: pytest.LogCaptureFixture
) -> None:
    name = keys.decrypted_connector(*connector_ids)
    await make_catalog(sealer=Sealer(["planted-one"])).connector(*connector_ids)
    stored = await raw.get(name)
    catalog = make_catalog(sealer=Sealer(["planted-another"]), near_ttl=0)
    for _ in range(3):
        await raw.set(name, stored)
        assert await catalog.connector(*connector_ids)
    (message,) = [record.getMessage() for record in caplog.records if record.name == "cache.sealing"]
    assert name in message
    assert "CACHE_SECRET_KEY" in message
    assert not [text for text in ("planted", TOKEN, stored.decode(), stored.decode()[7:15]) if text in caplog.text]
