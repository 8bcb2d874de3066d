"""Emptying and filling the cache by hand: `datanadhi-worker cache invalidate` and `cache warm`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import typer

from cache import keys
from cache.catalog import Catalog
from cache.crypto import CredentialsError
from cache.documents import UnsupportedDocumentError
from cache.invalidation import Invalidator
from cache.keys import InvalidIdentifierError
from cache.redis_cache import RedisCache
from cache.source import SourceUnavailableError
from workers.clients import open_catalog, open_redis, open_source
from workers.command_settings import WRONG_USAGE, settings_used
from workers.settings import Settings

CLIENT_NAME = "datanadhi-worker-cache-command"
DONE = 0
NOT_DONE = 1


async def invalidate(settings: Settings, level: str, identifiers: tuple[str, ...]) -> int:
    """Delete what is cached about a level and all below it; the exit code.

    Args:
        settings: Where Redis is.
        level: `organisation`, `project`, `pipeline`, `workflow`, `target` or `connector`.
        identifiers: Which, from the organisation down.
    """
    with settings_used():
        return await _invalidated(settings, level, identifiers)


async def _invalidated(settings: Settings, level: str, identifiers: tuple[str, ...]) -> int:
    async with open_redis(settings, client_name=CLIENT_NAME) as redis:
        invalidator = Invalidator(redis)
        levels: dict[str, Callable[..., Awaitable[bool]]] = {
            "organisation": invalidator.organisation,
            "project": invalidator.project,
            "pipeline": invalidator.pipeline,
            "workflow": invalidator.workflow,
            "target": invalidator.target,
            "connector": invalidator.connector,
        }
        try:
            done = await levels[level](*identifiers)
        except InvalidIdentifierError as error:
            typer.echo(str(error), err=True)
            return WRONG_USAGE
    name = f"{level} {'/'.join(identifiers)}"
    if not done:
        typer.echo(f"{_away(redis)}: {name} may still be cached, for as long as its TTLs last. Repeat this.", err=True)
        return NOT_DONE
    typer.echo(
        f"{name} is out of Redis; workers that remember it themselves do so for CACHE_NEAR_TTL_MS at most "
        f"({settings.cache_near_ttl_ms} ms as set here)"
    )
    return DONE


async def warm_pipeline(settings: Settings, organisation_id: str, project_id: str, pipeline_id: str) -> int:
    """Read a pipeline and all that running it takes, so that Redis has it; the exit code. No value is printed."""
    ids = (organisation_id, project_id, pipeline_id)
    async with AsyncExitStack() as opened:
        opened.enter_context(settings_used())
        redis = await opened.enter_async_context(open_redis(settings, client_name=CLIENT_NAME))
        source = await opened.enter_async_context(open_source(settings))
        catalog = await opened.enter_async_context(open_catalog(settings, redis, source, near_ttl=0))
        try:
            warming = Warming(catalog, *ids)
            await warming.run()
        except InvalidIdentifierError as error:
            typer.echo(str(error), err=True)
            return WRONG_USAGE
        except SourceUnavailableError as error:
            typer.echo(str(error), err=True)
            return NOT_DONE
        stored = sum(value is not None for value in await redis.safe_get_many(warming.read))
    name = f"pipeline {'/'.join(ids)}"
    typer.echo(f"{name}: {stored} of {len(warming.read)} values that it takes are in Redis ({warming.summary()})")
    if stored < len(warming.read):
        typer.echo(f"{_away(redis)}, or stores nothing", err=True)
    for problem in warming.problems:
        typer.echo(problem, err=True)
    return NOT_DONE if warming.problems or stored < len(warming.read) else DONE


class Warming:
    """Reads a pipeline, its nodes, the targets they name and the connectors of those.

    Attributes:
        read: The keys of all that was there.
        problems: What was not there or could not be used; nothing of its contents.
    """

    def __init__(self, catalog: Catalog, organisation_id: str, project_id: str, pipeline_id: str) -> None:
        self.read: list[str] = []
        self.problems: list[str] = []
        self._catalog = catalog
        self._project = (organisation_id, project_id)
        self._pipeline = (organisation_id, project_id, pipeline_id)
        self._targets = 0
        self._connectors = 0
        self._nodes = 0

    async def run(self) -> None:
        """Read all of it.

        Raises:
            InvalidIdentifierError: The pipeline's own identifiers may not become part of a key.
            SourceUnavailableError: MongoDB has to be read, and cannot be.
        """
        key = keys.pipeline(*self._pipeline)
        if await self._usable("such pipeline", lambda: self._catalog.pipeline(*self._pipeline)) is None:
            return
        self.read.append(key)
        nodes = await self._usable("workflow", lambda: self._catalog.workflow(*self._pipeline)) or {}
        self._nodes = len(nodes)
        if nodes:
            self.read.append(keys.workflow(*self._pipeline))
        targets = [await self._target(each) for each in _named_by(nodes.values(), "target_id")]
        for connector_id in _named_by(targets, "connectorId"):
            await self._connector(connector_id)

    def summary(self) -> str:
        """What was read."""
        return f"nodes: {self._nodes}, targets: {self._targets}, connectors: {self._connectors}"

    async def _target(self, target_id: str) -> Any:
        ids = (*self._pipeline, target_id)
        target = await self._usable(f"target {target_id!a}", lambda: self._catalog.target(*ids))
        if target is not None:
            self._targets += 1
            self.read.append(keys.target(*ids))
        return target

    async def _connector(self, connector_id: str) -> None:
        ids = (*self._project, connector_id)
        if await self._usable(f"connector {connector_id!a}", lambda: self._catalog.connector(*ids)) is not None:
            self._connectors += 1
            self.read.append(keys.decrypted_connector(*ids))

    async def _usable(self, name: str, read: Callable[[], Awaitable[Any]]) -> Any:
        """What `read` gives; where that is nothing, or nothing of use, it is noted as a problem."""
        try:
            value = await read()
        except (InvalidIdentifierError, CredentialsError, UnsupportedDocumentError) as error:
            self.problems.append(str(error))
            return None
        if value is None:
            self.problems.append(f"there is no {name}")
        return value


def _named_by(documents: Any, field: str) -> list[str]:
    """What documents name in a field, each once, in order."""
    named = (document.get(field) for document in documents if isinstance(document, dict))
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def _away(redis: RedisCache) -> str:
    reached = redis.counters.failures == 0
    return f"Redis at {redis.address} {'answers and refuses' if reached else 'could not be reached'}"
