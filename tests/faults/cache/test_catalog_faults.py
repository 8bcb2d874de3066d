"""The catalog while Redis, MongoDB or both are failing: known pipelines are served, unknown ones fail in time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from cache import keys
from cache.catalog import Catalog
from cache.crypto import CredentialsError, seal
from cache.invalidation import Invalidator
from cache.redis_cache import RedisCache
from cache.source import MongoSource, SourceUnavailableError
from workers.embedded.servers import Server, free_port, running, start_mongodb, start_valkey

# pymongo leaves a socket to the garbage collector if it is closed while it connects to a server that is away.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")

SEC_DB = "my-secret-db-key"
DATABASE = "faults"
IDS = ("o", "p", "l")


def _redis(address: str, *, timeout: float = 0.25) -> RedisCache:
    return RedisCache.configure(f"redis://{address}/0", timeout=timeout, first_cooldown=0.05, longest_cooldown=0.2)


def _client(server: Server) -> AsyncMongoClient[dict[str, Any]]:
    return AsyncMongoClient(
        f"mongodb://{server.address}/?directConnection=true",
        serverSelectionTimeoutMS=200,
        connectTimeoutMS=200,
        socketTimeoutMS=200,
    )


@contextlib.asynccontextmanager
async def _source(server: Server) -> AsyncIterator[MongoSource]:
    """A source that gives up sooner than the real one, so that tests do."""
    source = MongoSource(_client(server), DATABASE, budget=0.5)
    yield source
    await source.aclose()


async def _fill(server: Server, name: str = "first", count: int = 1) -> None:
    """Write `count` pipelines (`l`, `l1`, `l2`, ...) of that name."""
    async with AsyncMongoClient(f"mongodb://{server.address}/?directConnection=true") as client:
        for number in range(count):
            ids = {"organisationId": "o", "projectId": "p", "pipelineId": f"l{number or ''}"}
            document = {**ids, "pipelineName": name, "startNodeId": "a"}
            await client[DATABASE]["Pipelines"].replace_one(ids, document, upsert=True)


@pytest_asyncio.fixture
async def own_mongodb(tmp_path: Path) -> AsyncIterator[Server]:
    """A MongoDB-protocol server that a test may break."""
    async with running(start_mongodb(tmp_path / "mongodb")) as server:
        await _fill(server)
        yield server
        with contextlib.suppress(ProcessLookupError):
            server.send_signal(signal.SIGKILL)  # nothing it holds is worth the seconds of a gentle end
    gc.collect()  # see `pytestmark`: here, and not in the middle of another test


class Observed(Counter[str]):
    """Outcomes, counted."""

    def __call__(self, _family: str, outcome: str) -> None:
        """Count one."""
        self[outcome] += 1


async def _name(catalog: Catalog, *ids: str) -> str | None:
    document = await catalog.pipeline(*(ids or IDS))
    return None if document is None else document["pipelineName"]


async def _refused(_server: Server) -> str:
    return f"127.0.0.1:{free_port()}"


async def _frozen(server: Server) -> str:
    server.send_signal(signal.SIGSTOP)
    return server.address


async def _out_of_memory(server: Server) -> str:
    async with Redis.from_url(f"redis://{server.address}") as raw:
        await raw.config_set("maxmemory-policy", "noeviction")
        await raw.config_set("maxmemory", 1)
    return server.address


async def _read_only(server: Server) -> str:
    async with Redis.from_url(f"redis://{server.address}") as raw:
        await raw.replicaof("127.0.0.1", free_port())
    return server.address


async def _locked(server: Server) -> str:
    async with Redis.from_url(f"redis://{server.address}") as raw:
        await raw.config_set("requirepass", "secret")
    return server.address


async def _without_scripts(server: Server) -> str:
    async with Redis.from_url(f"redis://{server.address}") as raw:
        await raw.execute_command("ACL", "SETUSER", "default", "-@scripting")
    return server.address


@pytest.mark.parametrize("fault", [_refused, _frozen, _out_of_memory, _read_only, _locked, _without_scripts])
async def test_whatever_ails_redis_mongodb_takes_over(
    own_valkey: Server, own_mongodb: Server, fault: Callable[[Server], Awaitable[str]]
) -> None:
    redis = _redis(await fault(own_valkey))
    async with _source(own_mongodb) as source:
        catalog = Catalog(redis, source, sec_db=SEC_DB)
        names = await asyncio.gather(*(_name(catalog) for _ in range(100)))
        assert names == ["first"] * 100
        assert source.reads == 1
        await catalog.aclose()
        await RedisCache.reset()


async def test_without_redis_mongodb_is_read_once_a_key_as_long_as_memory_lasts(own_mongodb: Server) -> None:
    await _fill(own_mongodb, count=10)
    redis = _redis(f"127.0.0.1:{free_port()}")
    outcomes = Observed()
    async with _source(own_mongodb) as source:
        catalog = Catalog(redis, source, sec_db=SEC_DB, near_ttl=60, observe=outcomes)
        for _ in range(50):
            await asyncio.gather(*(_name(catalog, "o", "p", f"l{number % 10 or ''}") for number in range(100)))
        assert source.reads == 10
        assert outcomes["bypass"] + outcomes["miss"] + outcomes["near"] == 5000
        await catalog.aclose()


async def test_redis_back_it_is_filled_again(own_valkey: Server, own_mongodb: Server, tmp_path: Path) -> None:
    redis = _redis(own_valkey.address)
    async with _source(own_mongodb) as source:
        catalog = Catalog(redis, source, sec_db=SEC_DB, near_ttl=0)
        await own_valkey.stop()
        while redis.state == "closed":
            assert await _name(catalog) == "first"
        async with running(start_valkey(tmp_path / "again", port=own_valkey.port)):
            assert redis.breaker._recovery is not None
            await redis.breaker._recovery
            assert await _name(catalog) == "first"
            reads = source.reads
            assert await _name(catalog) == "first"
            assert source.reads == reads
            await catalog.aclose()
            await RedisCache.reset()


async def test_both_gone_known_pipelines_are_served_and_unknown_ones_fail_in_time_and_both_back_all_is_fresh(
    own_valkey: Server, own_mongodb: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cache")
    redis = _redis(own_valkey.address)
    outcomes = Observed()
    async with _source(own_mongodb) as source:
        catalog = Catalog(redis, source, sec_db=SEC_DB, near_ttl=0, observe=outcomes)
        assert await _name(catalog) == "first"
        await own_valkey.stop()
        own_mongodb.send_signal(signal.SIGKILL)
        await own_mongodb.process.wait()

        for _ in range(20):
            assert await _name(catalog) == "first"
        assert outcomes["stale"] == 20
        async with asyncio.timeout(5):
            with pytest.raises(SourceUnavailableError, match="organisationId=o projectId=p pipelineId=unknown"):
                await catalog.pipeline("o", "p", "unknown")
        said = [record.getMessage() for record in caplog.records if "last known" in record.getMessage()]
        assert said == [f"MongoDB cannot be read: serving the last known value of {keys.pipeline(*IDS)}"]

        mongodb = start_mongodb(tmp_path / "mongodb", port=own_mongodb.port)
        valkey = start_valkey(tmp_path / "again", port=own_valkey.port)
        async with running(mongodb) as mongodb_again, running(valkey):
            await _fill(mongodb_again, "second")
            assert redis.breaker._recovery is not None
            await redis.breaker._recovery
            while await _name(catalog) != "second":
                pass  # the driver finds its server again when it does; each round waits for it a moment
            assert any("MongoDB answers again" in record.getMessage() for record in caplog.records)
            await catalog.aclose()
            await RedisCache.reset()


async def test_a_frozen_mongodb_holds_up_a_known_pipeline_once_and_then_hardly(own_mongodb: Server) -> None:
    """While it is known to be away nobody waits out the budget for a value that is at hand."""
    redis = _redis(f"127.0.0.1:{free_port()}")
    async with _source(own_mongodb) as source:
        catalog = Catalog(redis, source, sec_db=SEC_DB, near_ttl=0)
        assert await _name(catalog) == "first"
        own_mongodb.send_signal(signal.SIGSTOP)
        assert await _name(catalog) == "first"
        flights = set()
        for _ in range(5):
            assert await _name(catalog) == "first"
            flights |= catalog._reader._flights.airborne
        assert len(flights) == 1, "one attempt was under way all along, and nobody waited for its end"
        own_mongodb.send_signal(signal.SIGCONT)
        await catalog.aclose()


async def test_a_last_known_value_serves_for_its_time_only(own_mongodb: Server) -> None:
    redis = _redis(f"127.0.0.1:{free_port()}")
    async with _source(own_mongodb) as source:
        catalog = Catalog(redis, source, sec_db=SEC_DB, near_ttl=0, stale_max_seconds=60)
        clock = [1000.0]
        catalog._reader._last_known._clock = lambda: clock[0]
        assert await _name(catalog) == "first"
        await own_mongodb.stop()
        clock[0] += 59.9
        assert await _name(catalog) == "first"
        clock[0] += 0.1
        with pytest.raises(SourceUnavailableError):
            await _name(catalog)
        await catalog.aclose()


async def test_what_was_invalidated_or_deleted_is_not_served_stale(own_mongodb: Server) -> None:
    redis = _redis(f"127.0.0.1:{free_port()}")
    await _fill(own_mongodb, count=2)
    async with _source(own_mongodb) as source, _client(own_mongodb) as client:
        catalog = Catalog(redis, source, sec_db=SEC_DB, near_ttl=0, negative_ttl=0)
        assert await _name(catalog) == await _name(catalog, "o", "p", "l1") == "first"
        await Invalidator(redis, catalog).pipeline(*IDS)
        await client[DATABASE]["Pipelines"].delete_one({"pipelineId": "l1"})
        assert await _name(catalog, "o", "p", "l1") is None
        await own_mongodb.stop()
        for pipeline_id in ("l", "l1"):
            with pytest.raises(SourceUnavailableError):
                await _name(catalog, "o", "p", pipeline_id)
        await catalog.aclose()


async def test_credentials_read_anew_are_never_stale_ones_and_others_keep_theirs(
    own_valkey: Server, own_mongodb: Server
) -> None:
    """They were rejected: the same again would be, for good. What Redis has is not thrown away for nothing either."""
    redis = _redis(own_valkey.address)
    credentials = {"encryptedCredentials": seal('{"token":"t"}', SEC_DB)}
    async with _client(own_mongodb) as client:
        await client[DATABASE]["IntegrationConnectors"].insert_one(
            {"organisationId": "o", "projectId": "p", "connectorId": "c", **credentials}
        )
    async with _source(own_mongodb) as source:
        catalog = Catalog(redis, source, sec_db=SEC_DB, near_ttl=0)
        assert await catalog.connector("o", "p", "c") is not None
        await own_mongodb.stop()
        with pytest.raises(SourceUnavailableError):
            await catalog.connector("o", "p", "c", refresh=True)
        assert await redis.safe_get(keys.decrypted_connector("o", "p", "c")) is not None
        await catalog.aclose()
        await RedisCache.reset()


async def test_an_api_key_is_never_accepted_from_memory_while_mongodb_is_away(
    own_mongodb: Server, platform: dict[str, Any]
) -> None:
    """Revoked, it must not live on for as long as an outage lasts."""
    redis = _redis(f"127.0.0.1:{free_port()}")
    async with AsyncMongoClient(f"mongodb://{own_mongodb.address}/?directConnection=true") as client:
        for collection in ("Organisations", "Projects"):
            await client[DATABASE][collection].insert_many(
                [dict(document) for document in platform["collections"][collection]]
            )
    environment = platform["env"]
    api_key = next(name for name in platform["redis"] if ":apikey:" in name).rpartition(":")[2]
    async with _source(own_mongodb) as source:
        catalog = Catalog(
            redis,
            source,
            sec_db=environment["SEC_DB"],
            sec_global=environment["SEC_GLOBAL"],
            nonce_value=environment["NONCE_VALUE"],
            near_ttl=0,
        )
        assert await catalog.api_key(api_key) is not None
        await own_mongodb.stop()
        with pytest.raises(SourceUnavailableError):
            await catalog.api_key(api_key)
        await catalog.aclose()


async def test_errors_of_a_shared_load_reach_every_caller(own_mongodb: Server) -> None:
    redis = _redis(f"127.0.0.1:{free_port()}")
    async with _client(own_mongodb) as client:
        await client[DATABASE]["IntegrationConnectors"].insert_one(
            {"organisationId": "o", "projectId": "p", "connectorId": "c", "encryptedCredentials": "no"}
        )
    async with _source(own_mongodb) as source:
        catalog = Catalog(redis, source, sec_db=SEC_DB)
        errors = await asyncio.gather(*(catalog.connector("o", "p", "c") for _ in range(20)), return_exceptions=True)
        assert all(isinstance(error, CredentialsError) for error in errors)
        assert source.reads == 1
        await catalog.aclose()
