"""Messages a second and their latency through the whole pipeline, beside those of an empty workflow in the same run.

Everything runs on this machine: Temporal, Valkey and a MongoDB-protocol server as processes of their own; the worker,
the client and the HTTP receiver in this process. Rounds of the two workflows alternate, so that a noisy machine is
noisy to both; medians of the rounds are compared.

    python benchmarks/pipeline.py [--messages 200] [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import SecretStr
from pymongo import AsyncMongoClient
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

# The project's folder in place of this one, whose cache.py would stand in front of the package of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from activities.data_converter import DATA_CONVERTER
from activities.metrics import WorkerMetrics
from benchmarks.empty_workflow import EmptyWorkflow
from cache.crypto import seal
from workers.embedded.receiver import Receiver
from workers.embedded.servers import running, start_mongodb, start_temporal, start_valkey
from workers.process import create_workers, open_dependencies
from workers.settings import Settings

SEC_DB = "benchmark"
IDS = {"organisationId": "acme", "projectId": "shop", "pipelineId": "orders"}
CONCURRENCIES = (1, 20, 40)
BATCH_RECORDS = 500
NODES: dict[str, dict[str, Any]] = {
    "branch": {
        "name": "by level",
        "type": "condition-branching",
        "filters": {
            "errors": {
                "filter": {"check": {"key": "$.level", "operator": "et", "value": "ERROR"}},
                "next": ["tag"],
            }
        },
    },
    "tag": {
        "name": "tag",
        "type": "transformation",
        "transformation_fn": "JSON.add_key",
        "transformation_params": {"key": "$.alert.severity", "value": "high"},
        "next": ["scrub"],
    },
    "scrub": {
        "name": "scrub",
        "type": "transformation",
        "transformation_fn": "JSON.remove_key",
        "transformation_params": {"key": "$.password"},
        "next": ["end"],
    },
    "end": {"name": "hook", "type": "end", "target_id": "hook"},
}
RECORD = {
    "level": "ERROR",
    "message": "payment declined by the issuer",
    "service": "checkout",
    "user": {"id": 4711, "tier": "gold"},
    "password": "not for the log",
    "duration_ms": 181,
}
"""The four-node sample: a branch, two transformations, one delivery."""


@dataclass
class Series:
    """What was measured of one kind of work at one concurrency, a value a round."""

    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Median rate (1/s) and median latency (ms)."""
        return {
            "per_second": round(statistics.median(self.rates), 1),
            "p50_ms": round(statistics.median(self.latencies) * 1000, 1),
        }


async def store_sample(mongo_url: str, database: str, hook_url: str) -> None:
    """Write the sample pipeline's documents."""
    connector = {"connectorId": "bot", "connectorName": "bot", "integrationType": "webhook"}
    target = {"targetId": "hook", "connectorId": "bot", "destinationName": "hook"}
    project = {name: IDS[name] for name in ("organisationId", "projectId")}
    documents: dict[str, list[dict[str, Any]]] = {
        "Pipelines": [{**IDS, "pipelineName": "orders", "pipelineCode": "o", "active": True, "startNodeId": "branch"}],
        "PipelineNodes": [{**IDS, "nodeId": node, "nodeConfig": config} for node, config in NODES.items()],
        "IntegrationConnectors": [{**project, **connector, "encryptedCredentials": seal("{}", SEC_DB)}],
        "IntegrationTargets": [{**IDS, **target, "destinationParams": {"url": hook_url}}],
    }
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        for collection, contents in documents.items():
            await client[database][collection].insert_many(contents)


@asynccontextmanager
async def stack(folder: Path) -> AsyncIterator[Client]:
    """Servers, receiver, sample documents and worker; yields a client."""
    async with AsyncExitStack() as opened:
        temporal = await opened.enter_async_context(running(start_temporal(folder / "temporal")))
        valkey = await opened.enter_async_context(running(start_valkey(folder / "valkey")))
        mongodb = await opened.enter_async_context(running(start_mongodb(folder / "mongodb")))
        receiver = await opened.enter_async_context(Receiver())
        mongo_url = f"mongodb://{mongodb.address}/?directConnection=true"
        await store_sample(mongo_url, "benchmark", f"{receiver.url}/hook/benchmark")
        settings = Settings(
            mongo_url=SecretStr(mongo_url),
            mongo_database="benchmark",
            redis_url=SecretStr(f"redis://{valkey.address}/0"),
            sec_db=SecretStr(SEC_DB),
            failure_store_url=SecretStr("memory:///"),
        )
        client = await Client.connect(temporal.address, data_converter=DATA_CONVERTER)
        dependencies = await opened.enter_async_context(open_dependencies(settings, WorkerMetrics()))
        empty = Worker(
            client, task_queue="empty", workflows=[EmptyWorkflow], workflow_runner=UnsandboxedWorkflowRunner()
        )
        for worker in [empty, *create_workers(settings, client, dependencies)]:
            await opened.enter_async_context(worker)
        yield client


async def run_empty(client: Client) -> None:
    """One empty workflow."""
    await client.execute_workflow("EmptyWorkflow", id=f"empty-{uuid4().hex}", task_queue="empty")


async def run_message(client: Client) -> None:
    """One message of the sample pipeline."""
    metadata = {**IDS, "messageId": uuid4().hex}
    result = await client.execute_workflow(
        "MainWorkflow", {"metadata": metadata, "log_data": RECORD}, id=f"message-{uuid4().hex}", task_queue="default"
    )
    if not result["success"] or result.get("failures"):
        raise RuntimeError("a message was not delivered")


async def run_batch(client: Client) -> None:
    """One batch of the sample pipeline."""
    metadata = {**IDS, "messageId": uuid4().hex}
    argument = {"metadata": metadata, "log_batch": [RECORD] * BATCH_RECORDS}
    result = await client.execute_workflow("MainWorkflow", argument, id=f"batch-{uuid4().hex}", task_queue="default")
    if result["delivered"] != BATCH_RECORDS:
        raise RuntimeError("a batch was not delivered")


async def measure(work: Callable[[], Awaitable[None]], count: int, concurrency: int, series: Series) -> None:
    """Do some work so many times, so many at once, and note its rate and its median latency."""
    latencies: list[float] = []
    remaining = iter(range(count))

    async def loop() -> None:
        for _ in remaining:
            begun = time.perf_counter()
            await work()
            latencies.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(loop() for _ in range(concurrency)))
    series.rates.append(count / (time.perf_counter() - begun))
    series.latencies.append(statistics.median(latencies))


async def compare(client: Client, messages: int, rounds: int) -> dict[str, Any]:
    """Measure both workflows at every concurrency, then batches."""
    results: dict[str, Any] = {}
    await measure(lambda: run_message(client), 10, 5, Series())
    await measure(lambda: run_empty(client), 10, 5, Series())
    for concurrency in CONCURRENCIES:
        empty, message = Series(), Series()
        count = max(20, messages // (4 if concurrency == 1 else 1))
        for _ in range(rounds):
            await measure(lambda: run_empty(client), count, concurrency, empty)
            await measure(lambda: run_message(client), count, concurrency, message)
        ratio = message.summary()["per_second"] / empty.summary()["per_second"]
        results[str(concurrency)] = {"empty": empty.summary(), "message": message.summary(), "ratio": round(ratio, 2)}
    batch = Series()
    for _ in range(rounds):
        await measure(lambda: run_batch(client), 8, 4, batch)
    results["batches"] = {"records_per_second": round(batch.summary()["per_second"] * BATCH_RECORDS)}
    return results


def show(results: dict[str, Any]) -> None:
    """Print the results as a table."""
    print(f"{'concurrency':>11}  {'empty/s':>8}  {'p50 ms':>7}  {'messages/s':>10}  {'p50 ms':>7}  {'ratio':>5}")
    for concurrency in map(str, CONCURRENCIES):
        row = results[concurrency]
        empty, message = row["empty"], row["message"]
        print(
            f"{concurrency:>11}  {empty['per_second']:>8}  {empty['p50_ms']:>7}"
            f"  {message['per_second']:>10}  {message['p50_ms']:>7}  {row['ratio']:>5}"
        )
    print(f"batches of {BATCH_RECORDS}: {results['batches']['records_per_second']} records/s")


async def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=200, help="messages a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="datanadhi-benchmark-") as folder:
        async with stack(Path(folder)) as client:
            results = await compare(client, options.messages, options.rounds)
    print(json.dumps(results, indent=2)) if options.json else show(results)


if __name__ == "__main__":
    asyncio.run(main())
