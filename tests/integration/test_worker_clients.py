"""The clients as the settings ask for them: sealed by the worker and by the command alike, stale for so long."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from cache import keys
from cache.sealing import PREFIX
from cache.source import MongoSource, SourceUnavailableError
from tests.harness import Platform
from workers.cache_upkeep import warm_pipeline
from workers.clients import open_catalog, open_redis, open_source
from workers.embedded.servers import free_port
from workers.settings import Settings, UnusableSettingError


@pytest.mark.parametrize(("key", "sealed"), [("", False), ("newest,older", True)])
async def test_what_the_command_warms_is_sealed_as_by_a_worker(
    key: str, *, sealed: bool, settings: Settings, stored: Platform, own_redis_url: str
) -> None:
    settings = settings.model_copy(update={"cache_secret_key": SecretStr(key), "cache_timeout_ms": 2000})
    connector = stored.data["collections"]["IntegrationConnectors"][0]
    assert await warm_pipeline(settings, *stored.identifiers.values()) == 0
    async with Redis.from_url(own_redis_url) as raw:
        value = await raw.get(
            keys.decrypted_connector(connector["organisationId"], connector["projectId"], connector["connectorId"])
        )
    assert value.startswith(PREFIX) is sealed


@pytest.mark.parametrize("seconds", [0, 60])
async def test_the_last_known_value_serves_for_as_long_as_is_set(
    seconds: int, settings: Settings, stored: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise SourceUnavailableError("MongoDB is away")

    ids = tuple(stored.identifiers.values())
    nowhere = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
    settings = settings.model_copy(update={"redis_url": nowhere, "cache_stale_max_s": seconds})
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings))
        source = await stack.enter_async_context(open_source(settings))
        catalog = await stack.enter_async_context(open_catalog(settings, redis, source, near_ttl=0))
        known = await catalog.pipeline(*ids)
        monkeypatch.setattr(MongoSource, "_read", away)
        if seconds:
            assert await catalog.pipeline(*ids) == known
        else:
            with pytest.raises(SourceUnavailableError):
                await catalog.pipeline(*ids)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mongo_url", "mongodb://user:hunter2@h:99999"),
        ("mongo_url", "mongodb://user:hunter2@"),
        ("mongo_url", "mongodb://user:hunter2@h/?tls=true&tlsCAFile=/not/there"),
        ("redis_url", "redis://:hunter2@h:six"),
    ],
)
async def test_an_address_that_cannot_be_used_is_named_and_not_shown(
    field: str, value: str, settings: Settings
) -> None:
    settings = settings.model_copy(update={field: SecretStr(value)})
    opened = open_source(settings) if field == "mongo_url" else open_redis(settings)
    with pytest.raises(UnusableSettingError, match=re.escape(field.upper())) as caught:
        await opened.__aenter__()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
