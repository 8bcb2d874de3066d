"""What integration tests build on: the platform's documents in MongoDB, a worker's parts, messages, results."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pymongo import AsyncMongoClient
from temporalio.client import Client, WorkflowHandle

from activities.metrics import WorkerMetrics
from workers.process import Dependencies, create_workers, open_dependencies
from workers.settings import Settings

TASK_QUEUE = "default"


@dataclass(frozen=True)
class Platform:
    """The platform's data in one database, with the means to change it."""

    data: dict[str, Any]
    url: str
    database: str

    @property
    def identifiers(self) -> dict[str, str]:
        """Organisation, project and pipeline of the sample data, as a message names them."""
        pipeline = self.data["collections"]["Pipelines"][0]
        return {name: pipeline[name] for name in ("organisationId", "projectId", "pipelineId")}

    async def store(self) -> None:
        """Write all documents."""
        async with AsyncMongoClient[dict[str, Any]](self.url) as client:
            for collection, documents in self.data["collections"].items():
                await client[self.database][collection].insert_many([dict(document) for document in documents])

    async def update(self, collection: str, query: dict[str, Any], change: dict[str, Any]) -> None:
        """Change one document's fields."""
        async with AsyncMongoClient[dict[str, Any]](self.url) as client:
            result = await client[self.database][collection].update_one(query, {"$set": change})
            assert result.matched_count == 1

    async def delete(self, collection: str, query: dict[str, Any]) -> None:
        """Delete documents."""
        async with AsyncMongoClient[dict[str, Any]](self.url) as client:
            result = await client[self.database][collection].delete_many(query)
            assert result.deleted_count

    def message(self, *, log_data: Any = None, log_batch: Any = None) -> dict[str, Any]:
        """A message as the API server sends it."""
        message_id = uuid4().hex
        metadata = {**self.identifiers, "messageId": message_id}
        if log_batch is not None:
            return {"metadata": metadata, "log_batch": log_batch}
        return {"metadata": metadata, "log_data": {**log_data, "messageId": message_id}}


@asynccontextmanager
async def worker_parts(client: Client, settings: Settings) -> AsyncIterator[Dependencies]:
    """A worker polling in this process, with its dependencies."""
    async with AsyncExitStack() as stack:
        dependencies = await stack.enter_async_context(open_dependencies(settings, WorkerMetrics()))
        for worker in create_workers(settings, client, dependencies):
            await stack.enter_async_context(worker)
        yield dependencies


async def start(client: Client, *arguments: Any, queue: str = TASK_QUEUE) -> WorkflowHandle[Any, Any]:
    """Start a MainWorkflow by type name and plain JSON, as the API server does."""
    return await client.start_workflow(
        "MainWorkflow", args=list(arguments), id=f"log_process-{uuid4().hex}", task_queue=queue
    )


async def process(client: Client, *arguments: Any) -> Any:
    """Start a MainWorkflow and return its result."""
    handle = await start(client, *arguments)
    return await handle.result()
