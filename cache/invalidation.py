"""Invalidation by level: what changed, and all that is cached below it, is gone from Redis and from this process."""

from __future__ import annotations

from cache import keys
from cache.catalog import Catalog
from cache.redis_cache import RedisCache


class Invalidator:
    """Deletes what is cached about a level, exactly: a neighbour whose identifier merely begins alike stays.

    Every method says whether Redis is known to have done it all: False means that Redis was away, and that what it
    holds will live until its TTL ends or the call is repeated. None raises but `cache.keys.InvalidIdentifierError`.
    Near caches of other processes follow within their TTL. API keys stand beside the levels and end with their TTL.

    Args:
        redis: The process's Redis client.
        catalog: This process's catalog, whose memory follows at once.
    """

    def __init__(self, redis: RedisCache, catalog: Catalog | None = None) -> None:
        self._redis = redis
        self._catalog = catalog

    async def everything(self) -> bool:
        """All organisations, and with them all that is cached but API keys."""
        return await self._under(keys.ORGANISATIONS)

    async def organisation(self, organisation_id: str) -> bool:
        """An organisation, its secret, and everything of its projects."""
        return await self._under(keys.organisation(organisation_id))

    async def project(self, organisation_id: str, project_id: str) -> bool:
        """A project, its secret, and all its pipelines and connectors."""
        return await self._under(keys.project(organisation_id, project_id))

    async def pipeline(
        self, organisation_id: str, project_id: str, pipeline_id: str, *, pipeline_code: str | None = None
    ) -> bool:
        """A pipeline, its nodes and its targets.

        Args:
            organisation_id: Whose.
            project_id: Of which project.
            pipeline_id: Which.
            pipeline_code: Its code, if it is known that it did not change; otherwise all pipelines of the project that
                are cached by code go, for the code it had is not known.
        """
        by_id = await self._under(keys.pipeline(organisation_id, project_id, pipeline_id))
        if pipeline_code is None:
            by_code = await self._under(keys.pipelines_by_code(organisation_id, project_id))
        else:
            by_code = await self._exactly(keys.pipeline_by_code(organisation_id, project_id, pipeline_code))
        return by_id and by_code

    async def workflow(self, organisation_id: str, project_id: str, pipeline_id: str) -> bool:
        """A pipeline's nodes."""
        return await self._exactly(keys.workflow(organisation_id, project_id, pipeline_id))

    async def target(self, organisation_id: str, project_id: str, pipeline_id: str, target_id: str) -> bool:
        """A target."""
        return await self._exactly(keys.target(organisation_id, project_id, pipeline_id, target_id))

    async def connector(self, organisation_id: str, project_id: str, connector_id: str) -> bool:
        """A connector, as stored and with its credentials."""
        return await self._exactly(
            keys.connector(organisation_id, project_id, connector_id),
            keys.decrypted_connector(organisation_id, project_id, connector_id),
        )

    async def _exactly(self, *names: str) -> bool:
        deleted = await self._redis.delete(*names)
        if self._catalog is not None:
            # After Redis, not before: a read in between would be remembered.
            for name in names:
                self._catalog.forget(name)
        return deleted

    async def _under(self, level: str) -> bool:
        deleted = await self._redis.delete_under(level)
        if self._catalog is not None:
            self._catalog.forget_under(level)
        return deleted
