"""What the activities ask for: pipelines, nodes, targets, connectors and the rest, read through the cache."""

from __future__ import annotations

from typing import Any

from cache import keys
from cache.api_keys import Owner
from cache.families import Families, SealedUnder
from cache.read_through import Observe, ObserveSeconds, ReadThrough
from cache.redis_cache import RedisCache
from cache.sealing import Sealer
from cache.source import Document, MongoSource

NEAR_TTL_SECONDS = 2.0
NEGATIVE_TTL_SECONDS = 3.0
STALE_MAX_SECONDS = 3600.0

NO_NODES = b"{}"


class Catalog:
    """Reads what the platform has stored, through near cache, Redis and MongoDB.

    Documents are plain JSON values without `_id`, new for every caller. Every method raises
    `cache.keys.InvalidIdentifierError` for an identifier that may not become part of a key (nothing is asked then),
    `cache.source.SourceUnavailableError` if the value is in no cache and MongoDB cannot be read, and
    `cache.documents.UnsupportedDocumentError` for a document that JSON cannot express.

    Args:
        redis: The process's Redis client.
        source: MongoDB.
        sec_db: Secret under which credentials and secrets are encrypted in MongoDB.
        sec_global: Secret under which API keys are encrypted.
        nonce_value: What the innermost layer of an API key holds.
        near_ttl: Seconds that this process remembers a value by itself; 0: each read is one GET in Redis.
        negative_ttl: Seconds that it remembers that something is not there.
        stale_max_seconds: How long the last known value may serve while MongoDB is away.
        observe: Told of each read: the family's name and near, hit, miss, bypass, stale or negative.
        observe_seconds: Told the same of each read that the near cache did not answer, and the seconds it took.
        sealer: Seals decrypted connectors and secrets in Redis; None: they lie there in plain, as the servers keep
            them, and one that somebody else has sealed is a miss.
    """

    def __init__(
        self,
        redis: RedisCache,
        source: MongoSource,
        *,
        sec_db: str,
        sec_global: str = "",
        nonce_value: str = "",
        near_ttl: float = NEAR_TTL_SECONDS,
        negative_ttl: float = NEGATIVE_TTL_SECONDS,
        stale_max_seconds: float = STALE_MAX_SECONDS,
        observe: Observe | None = None,
        observe_seconds: ObserveSeconds | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self._reader = ReadThrough(
            redis,
            near_ttl=near_ttl,
            negative_ttl=negative_ttl,
            stale_max_seconds=stale_max_seconds,
            observe=_unobserved if observe is None else observe,
            observe_seconds=observe_seconds,
        )
        secrets = SealedUnder(sec_db=sec_db, sec_global=sec_global, nonce_value=nonce_value)
        # A sealer without keys seals nothing, and takes nothing sealed for a secret, which may be any text.
        self._families = Families(
            source, secrets, Sealer() if sealer is None else sealer, self.organisation_secret, self.project_secret
        )

    @property
    def fills_refused(self) -> int:
        """How many values were not stored because an invalidation came between reading and storing."""
        return self._reader.fills_refused

    async def aclose(self) -> None:
        """End the loads that are under way."""
        await self._reader.aclose()

    def forget(self, key: str) -> None:
        """Forget `key` in this process; nothing that was read before now will be remembered."""
        self._reader.forget(key)

    def forget_under(self, level: str) -> None:
        """Forget the key `level` and all below it (`level:...`) in this process."""
        self._reader.forget_under(level)

    async def organisation(self, organisation_id: str) -> Document | None:
        """An organisation; None if there is none."""
        ids = (organisation_id,)
        return await self._reader.value(self._families.organisation, keys.organisation(*ids), ids)

    async def project(self, organisation_id: str, project_id: str) -> Document | None:
        """A project; None if there is none."""
        ids = (organisation_id, project_id)
        return await self._reader.value(self._families.project, keys.project(*ids), ids)

    async def pipeline(self, organisation_id: str, project_id: str, pipeline_id: str) -> Document | None:
        """A pipeline, by its id; None if there is none."""
        ids = (organisation_id, project_id, pipeline_id)
        return await self._reader.value(self._families.pipeline, keys.pipeline(*ids), ids)

    async def pipeline_by_code(self, organisation_id: str, project_id: str, pipeline_code: str) -> Document | None:
        """A pipeline, by its code; None if there is none."""
        ids = (organisation_id, project_id, pipeline_code)
        return await self._reader.value(self._families.pipeline_by_code, keys.pipeline_by_code(*ids), ids)

    async def workflow(self, organisation_id: str, project_id: str, pipeline_id: str) -> dict[str, Any]:
        """A pipeline's nodes, `{nodeId: nodeConfig}`; empty where there are none."""
        ids = (organisation_id, project_id, pipeline_id)
        return await self._reader.value(self._families.workflow, keys.workflow(*ids), ids) or {}

    async def workflow_json(self, organisation_id: str, project_id: str, pipeline_id: str) -> bytes:
        """A pipeline's nodes as JSON, `{}` where there are none; the same object as long as it is in the near cache."""
        ids = (organisation_id, project_id, pipeline_id)
        return await self._reader.content(self._families.workflow, keys.workflow(*ids), ids) or NO_NODES

    async def target(self, organisation_id: str, project_id: str, pipeline_id: str, target_id: str) -> Document | None:
        """A target of a pipeline; None if there is none."""
        ids = (organisation_id, project_id, pipeline_id, target_id)
        return await self._reader.value(self._families.target, keys.target(*ids), ids)

    async def connector(
        self, organisation_id: str, project_id: str, connector_id: str, *, refresh: bool = False
    ) -> Document | None:
        """A connector with its credentials decrypted, the object `creds`; None if there is none.

        Args:
            organisation_id: Whose.
            project_id: Of which project.
            connector_id: Which.
            refresh: Read MongoDB whatever is cached, for credentials that were rejected: they may have been replaced.

        Raises:
            CredentialsError: They do not open under `sec_db`, or are no JSON object.
        """
        ids = (organisation_id, project_id, connector_id)
        read = self._reader.fresh if refresh else self._reader.value
        return await read(self._families.decrypted_connector, keys.decrypted_connector(*ids), ids)

    async def stored_connector(self, organisation_id: str, project_id: str, connector_id: str) -> Document | None:
        """A connector as stored, its credentials encrypted; None if there is none."""
        ids = (organisation_id, project_id, connector_id)
        return await self._reader.value(self._families.connector, keys.connector(*ids), ids)

    async def organisation_secret(self, organisation_id: str) -> str | None:
        """An organisation's secret; None if there is no such organisation.

        Raises:
            CredentialsError: It does not open under `sec_db`.
        """
        ids = (organisation_id,)
        return await self._reader.value(self._families.organisation_secret, keys.organisation_secret(*ids), ids)

    async def project_secret(self, organisation_id: str, project_id: str) -> str | None:
        """A project's secret; None if there is no such project.

        Raises:
            CredentialsError: It does not open under `sec_db`.
        """
        ids = (organisation_id, project_id)
        return await self._reader.value(self._families.project_secret, keys.project_secret(*ids), ids)

    async def api_key(self, key: str) -> Owner | None:
        """Whom an API key belongs to; None if it is none of ours.

        Raises:
            CredentialsError: A secret it is checked against cannot be opened, or is not set.
        """
        try:
            name = keys.api_key(key)
        except keys.InvalidIdentifierError:
            return None
        return await self._reader.value(self._families.api_key, name, (key,))


def _unobserved(_family: str, _outcome: str) -> None:
    pass
