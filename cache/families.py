"""How each family of keys is read: from where in MongoDB, what its bytes must be, and how long Redis keeps them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from cache.api_keys import Owner, Secrets, owner_of
from cache.crypto import CredentialsError, DecryptionError, unseal
from cache.keys import API_KEY_REFUSED_TTL_SECONDS, Family
from cache.kind import Identifiers, Kind, Value
from cache.sealing import Sealer
from cache.source import Document, MongoSource

REFUSED = b'{"failure":true}'
"""What is cached for an API key that is none of ours."""


@dataclass(frozen=True, slots=True)
class SealedUnder:
    """The secrets under which things are sealed; none shows in a repr.

    Attributes:
        sec_db: Credentials and secrets in MongoDB.
        sec_global: The outermost layer of an API key.
        nonce_value: What the innermost layer of an API key holds.
    """

    sec_db: str = field(repr=False)
    sec_global: str = field(repr=False)
    nonce_value: str = field(repr=False)


class Families:
    """The kinds of everything that is cached.

    Args:
        source: MongoDB.
        sealed_under: What opens what is sealed in MongoDB, and an API key.
        sealer: What seals the credentials and secrets in Redis.
        organisation_secret: Gives an organisation's secret, through the cache.
        project_secret: Gives a project's secret, through the cache.
    """

    def __init__(
        self,
        source: MongoSource,
        sealed_under: SealedUnder,
        sealer: Sealer,
        organisation_secret: Callable[[str], Awaitable[str | None]],
        project_secret: Callable[[str, str], Awaitable[str | None]],
    ) -> None:
        self._source = source
        self._sealed_under = sealed_under
        self._secrets = Secrets(sealed_under.sec_global, sealed_under.nonce_value, organisation_secret, project_secret)
        of_project = ("organisationId", "projectId")
        of_pipeline = (*of_project, "pipelineId")
        self.organisation = _documents(Family.ORGANISATION, source.organisation, ("organisationId",))
        self.project = _documents(Family.PROJECT, source.project, of_project)
        self.pipeline = _documents(Family.PIPELINE, source.pipeline, of_pipeline, settled=_has_start)
        self.pipeline_by_code = _documents(
            Family.PIPELINE_BY_CODE, source.pipeline_by_code, (*of_project, "pipelineCode"), settled=_has_start
        )
        self.target = _documents(Family.TARGET, source.target, (*of_pipeline, "targetId"))
        self.connector = _documents(Family.CONNECTOR, source.connector, (*of_project, "connectorId"))
        self.decrypted_connector = _kind(
            Family.DECRYPTED_CONNECTOR, self._decrypted_connector, _with_credentials, sealer
        )
        self.workflow = _kind(Family.WORKFLOW, self._workflow, _nodes)
        # Never stale, nor what they open: a key that was revoked must not live on for as long as MongoDB is away.
        self.organisation_secret = _kind(
            Family.ORGANISATION_SECRET, self._organisation_secret, _text, sealer, may_be_stale=False
        )
        self.project_secret = _kind(Family.PROJECT_SECRET, self._project_secret, _text, sealer, may_be_stale=False)
        self.api_key: Kind[Owner | None] = Kind(
            family=Family.API_KEY, load=self._api_key, parse=_owner, ttl_seconds=_api_key_ttl, may_be_stale=False
        )

    async def _workflow(self, *identifiers: str) -> bytes | None:
        return _encoded(await self._source.pipeline_nodes(*identifiers) or None)

    async def _decrypted_connector(self, *identifiers: str) -> bytes | None:
        document = await self._source.connector(*identifiers)
        if document is None:
            return None
        name = f"connector {'/'.join(identifiers)}"
        try:
            credentials = orjson.loads(self._unsealed(document.get("encryptedCredentials"), f"credentials of {name}"))
        except orjson.JSONDecodeError:
            # From None: that error carries what it could not decode, which are the credentials.
            raise CredentialsError(f"the credentials of {name} are not JSON") from None
        if not isinstance(credentials, dict):
            raise CredentialsError(f"the credentials of {name} are not a JSON object")
        return _encoded({**document, "creds": credentials})

    async def _organisation_secret(self, organisation_id: str) -> bytes | None:
        document = await self._source.organisation(organisation_id)
        return self._secret(document, "organisationSecretEncrypted", f"secret of organisation {organisation_id}")

    async def _project_secret(self, organisation_id: str, project_id: str) -> bytes | None:
        document = await self._source.project(organisation_id, project_id)
        return self._secret(document, "projectSecretEncrypted", f"secret of project {organisation_id}/{project_id}")

    async def _api_key(self, key: str) -> bytes:
        if not (self._sealed_under.sec_global and self._sealed_under.nonce_value):
            raise CredentialsError("API keys cannot be checked: SEC_GLOBAL or NONCE_VALUE is not set")
        owner = await owner_of(key, self._secrets)
        if owner is None:
            return REFUSED
        return orjson.dumps({"orgId": owner.organisation_id, "projectId": owner.project_id})

    def _secret(self, document: Document | None, field_name: str, what: str) -> bytes | None:
        if document is None:
            return None
        secret = self._unsealed(document.get(field_name), what)
        if not secret:
            raise CredentialsError(f"the {what} is empty")
        return secret.encode()

    def _unsealed(self, sealed: Any, what: str) -> str:
        try:
            return unseal(sealed, self._sealed_under.sec_db)
        except DecryptionError as error:
            raise CredentialsError(f"the {what} cannot be opened: {error}") from None


def _kind(
    family: Family,
    load: Callable[..., Awaitable[bytes | None]],
    parse: Callable[[bytes, Identifiers], Value],
    sealer: Sealer | None = None,
    *,
    may_be_stale: bool = True,
) -> Kind[Value]:
    return Kind(
        family=family,
        load=load,
        parse=parse,
        ttl_seconds=lambda _content: family.ttl_seconds,
        may_be_stale=may_be_stale,
        sealer=sealer,
    )


def _documents(
    family: Family,
    read: Callable[..., Awaitable[Document | None]],
    identified_by: tuple[str, ...],
    *,
    settled: Callable[[Any], bool] = lambda _document: True,
) -> Kind[Document]:
    async def load(*identifiers: str) -> bytes | None:
        return _encoded(await read(*identifiers))

    def parse(content: bytes, identifiers: Identifiers) -> Document:
        return _document(content, identified_by, identifiers)

    return Kind(family=family, load=load, parse=parse, settled=settled, ttl_seconds=lambda _content: family.ttl_seconds)


def _encoded(document: Document | None) -> bytes | None:
    return None if document is None else orjson.dumps(document)


def _document(content: bytes, identified_by: tuple[str, ...], identifiers: Identifiers) -> Document:
    document = orjson.loads(content)
    if not isinstance(document, dict) or tuple(map(document.get, identified_by)) != identifiers:
        raise ValueError("it is not the document that its key names")
    document.pop("_id", None)  # the servers cache it, too
    return document


def _has_start(document: Document) -> bool:
    """Whether it can be run: the servers cache a pipeline as soon as it is made, and it has its start node later."""
    return bool(document.get("startNodeId"))


def _with_credentials(content: bytes, identifiers: Identifiers) -> Document:
    document = _document(content, ("organisationId", "projectId", "connectorId"), identifiers)
    if not isinstance(document.get("creds"), dict):
        raise ValueError("it has no credentials")  # noqa: TRY004 what `parse` raises: bytes of the wrong content
    return document


def _nodes(content: bytes, _identifiers: Identifiers) -> dict[str, Any]:
    nodes = orjson.loads(content)
    if not isinstance(nodes, dict) or not nodes:
        # Nodes that were not there yet are cached by nobody; empty, they are somebody else's mistake.
        raise ValueError("it holds no nodes")
    return nodes


def _text(content: bytes, _identifiers: Identifiers) -> str:
    if not content:
        raise ValueError("it is empty")
    return content.decode()


def _owner(content: bytes, _identifiers: Identifiers) -> Owner | None:
    cached = orjson.loads(content)
    if cached == {"failure": True}:
        return None
    if isinstance(cached, dict):
        organisation_id, project_id = cached.get("orgId"), cached.get("projectId")
        if isinstance(organisation_id, str) and isinstance(project_id, str):
            return Owner(organisation_id, project_id)
    raise ValueError("it is nobody")


def _api_key_ttl(content: bytes) -> int:
    return API_KEY_REFUSED_TTL_SECONDS if content == REFUSED else Family.API_KEY.ttl_seconds
