"""MongoDB, the source of truth: one read per kind of document, retried within a small budget."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConnectionFailure, ExecutionTimeout, OperationFailure, PyMongoError, WaitQueueTimeoutError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from cache.documents import to_json

Document = dict[str, Any]
"""A document as plain JSON values, without `_id`."""

BUDGET_SECONDS = 3.0
"""How long a read may take, all its attempts together. After that the activity fails as retryable: Temporal waits."""

ATTEMPT_MILLISECONDS = 1_500
"""How long one attempt may look for a server, connect to it, or wait for its answer."""

TRANSIENT_CODES = frozenset({6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})
"""Host unreachable or not found, timeouts, shutdown, stepping down: the codes on which MongoDB's drivers retry a read
(specifications, retryable reads)."""

# A date beyond Python's calendar is refused with its document's name, not by the driver with its contents.
_CODEC: CodecOptions[Document] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)

T = TypeVar("T")


class SourceUnavailableError(Exception):
    """MongoDB could not be read within the budget. The message says what was read, and nothing that was in it."""


class MongoSource:
    """Reads documents by their identifiers, which have been checked by `cache/keys.py` before.

    Every read gives the document as plain JSON values without `_id`, or None where there is none. It raises
    `SourceUnavailableError`, and `cache.documents.UnsupportedDocumentError` for a document that JSON cannot express.

    Args:
        client: Connected or not; closed by `aclose`.
        database: Name of the database.
        budget: Seconds a read may take, all attempts together.

    Attributes:
        reads: How many reads there were, for inspection.
    """

    def __init__(self, client: AsyncMongoClient[Document], database: str, *, budget: float = BUDGET_SECONDS) -> None:
        self.reads = 0
        self._client = client
        self._database: AsyncDatabase[Document] = client.get_database(database, codec_options=_CODEC)
        self._budget = budget

    @classmethod
    def connect(cls, url: str, database: str) -> MongoSource:
        """A source whose every step is bounded, also where no server can be reached. Nothing is connected yet.

        Args:
            url: `mongodb://` or `mongodb+srv://`.
            database: Name of the database.
        """
        client: AsyncMongoClient[Document] = AsyncMongoClient(
            url,
            serverSelectionTimeoutMS=ATTEMPT_MILLISECONDS,
            connectTimeoutMS=ATTEMPT_MILLISECONDS,
            socketTimeoutMS=ATTEMPT_MILLISECONDS,
            appname="datanadhi-worker",
        )
        return cls(client, database)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.close()

    async def ping(self) -> None:
        """Return if MongoDB answers.

        Raises:
            SourceUnavailableError: It does not.
        """
        await self._read("ping", lambda: self._database.command("ping"))

    async def organisation(self, organisation_id: str) -> Document | None:
        """An organisation."""
        return await self._one("Organisations", organisationId=organisation_id)

    async def project(self, organisation_id: str, project_id: str) -> Document | None:
        """A project of an organisation."""
        return await self._one("Projects", organisationId=organisation_id, projectId=project_id)

    async def pipeline(self, organisation_id: str, project_id: str, pipeline_id: str) -> Document | None:
        """A pipeline, by its id."""
        return await self._one(
            "Pipelines", organisationId=organisation_id, projectId=project_id, pipelineId=pipeline_id
        )

    async def pipeline_by_code(self, organisation_id: str, project_id: str, pipeline_code: str) -> Document | None:
        """A pipeline, by its code."""
        return await self._one(
            "Pipelines", organisationId=organisation_id, projectId=project_id, pipelineCode=pipeline_code
        )

    async def pipeline_nodes(self, organisation_id: str, project_id: str, pipeline_id: str) -> dict[str, Any]:
        """A pipeline's nodes, `{nodeId: nodeConfig}`; empty where there are none."""
        identifiers = {"organisationId": organisation_id, "projectId": project_id, "pipelineId": pipeline_id}
        projection = {"_id": 0, "nodeId": 1, "nodeConfig": 1}
        name = _name("PipelineNodes", identifiers)
        nodes = await self._read(
            name, lambda: self._database["PipelineNodes"].find(identifiers, projection).to_list(None)
        )
        # A node without an id can be nobody's next one.
        configurations = {
            node["nodeId"]: node.get("nodeConfig") for node in nodes if isinstance(node.get("nodeId"), str)
        }
        return to_json(configurations, name)

    async def target(self, organisation_id: str, project_id: str, pipeline_id: str, target_id: str) -> Document | None:
        """A target of a pipeline."""
        return await self._one(
            "IntegrationTargets",
            organisationId=organisation_id,
            projectId=project_id,
            pipelineId=pipeline_id,
            targetId=target_id,
        )

    async def connector(self, organisation_id: str, project_id: str, connector_id: str) -> Document | None:
        """A connector of a project, its credentials encrypted as stored."""
        return await self._one(
            "IntegrationConnectors", organisationId=organisation_id, projectId=project_id, connectorId=connector_id
        )

    async def _one(self, collection: str, **identifiers: str) -> Document | None:
        name = _name(collection, identifiers)
        document = await self._read(name, lambda: self._database[collection].find_one(identifiers, {"_id": 0}))
        return None if document is None else to_json(document, name)

    async def _read(self, name: str, attempt: Callable[[], Awaitable[T]]) -> T:
        async def once() -> T:  # tenacity awaits what is declared to be asynchronous, and nothing else
            return await attempt()

        self.reads += 1
        try:
            async with asyncio.timeout(self._budget):
                return await self._retrying()(once)
        except (TimeoutError, PyMongoError) as error:
            # Not that error's own words: they may quote the command, and so the filter.
            raise SourceUnavailableError(f"MongoDB could not be read ({name}): {type(error).__name__}") from error

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_delay(self._budget),
            wait=wait_random_exponential(multiplier=0.05, max=0.5),
            reraise=True,
        )


def _name(collection: str, identifiers: dict[str, str]) -> str:
    return f"{collection} {' '.join(f'{field}={value}' for field, value in identifiers.items())}"


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, OperationFailure) and not isinstance(error, ExecutionTimeout):
        return error.code in TRANSIENT_CODES
    return isinstance(error, ConnectionFailure | ExecutionTimeout | WaitQueueTimeoutError)
