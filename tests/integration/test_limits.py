"""Temporal's limits, with its real server: 2 MB a payload, 4 MB a message, so many events a history."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from temporalio.client import Client

from activities.data_converter import DATA_CONVERTER
from tests.harness import Platform, process, start, worker_parts
from workers.embedded.receiver import Receiver
from workers.embedded.servers import running, start_temporal
from workers.settings import Settings


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of Temporal's development server, which has a real server's limits."""
    async with running(start_temporal(tmp_path / "temporal")) as server:
        yield await Client.connect(server.address, data_converter=DATA_CONVERTER)


def stored_failures(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in folder.rglob("*.json")]


async def replace_nodes(stored: Platform, nodes: dict[str, dict[str, Any]]) -> None:
    """Give the pipeline other nodes; it starts at `start`."""
    async with AsyncMongoClient[dict[str, Any]](stored.url) as mongo:
        collection = mongo[stored.database]["PipelineNodes"]
        await collection.delete_many({})
        await collection.insert_many(
            [{**stored.identifiers, "nodeId": name, "nodeConfig": config} for name, config in nodes.items()]
        )
    await stored.update("Pipelines", {}, {"startNodeId": "start"})


def fan_out(count: int, config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A start node that leads to so many others, all alike but for their names."""
    names = [f"node-{number:04}-with-a-name-as-long-as-a-uuid" for number in range(count)]
    start = {"name": "all", "type": "condition-branching", "filters": {"all": {"next": names}}}
    return {"start": start} | {name: {**config, "name": name} for name in names}


BROKEN = {"type": "transformation", "transformation_fn": "JSON.nonsense", "next": []}


@pytest.mark.parametrize(("size", "branches"), [(1_000_000, 4), (200_000, 12)])
async def test_large_failures_are_all_stored(
    client: Client, settings: Settings, stored: Platform, failures: Path, size: int, branches: int
) -> None:
    await replace_nodes(stored, fan_out(branches, BROKEN))
    async with worker_parts(client, settings):
        result = await process(client, stored.message(log_data={"padding": "x" * size}))
    assert result["failures"] == branches
    assert len(stored_failures(failures)) == branches


async def test_a_batch_that_grows_on_its_way_to_many_targets_is_delivered_whole(
    client: Client, settings: Settings, stored: Platform, receiver: Receiver, failures: Path
) -> None:
    """120 records of 2 KB for 20 targets: 5 MB out of a quarter."""
    target = stored.data["collections"]["IntegrationTargets"][0]["targetId"]
    nodes = fan_out(20, {"type": "end", "target_id": target})
    await replace_nodes(stored, nodes)
    await stored.update("IntegrationConnectors", {}, {"integrationType": "webhook"})
    await stored.update(
        "IntegrationTargets", {"targetId": target}, {"destinationParams": {"url": receiver.hook_url("a")}}
    )
    async with worker_parts(client, settings):
        result = await process(client, stored.message(log_batch=[{"n": n, "padding": "x" * 2000} for n in range(120)]))
    assert result == {"success": True, "records": 120, "delivered": 120, "filtered": 0, "failed": 0}
    assert len(receiver.requests) == 120 * 20
    assert stored_failures(failures) == []


async def test_a_batch_of_failing_records_needs_no_history_without_end(
    client: Client, settings: Settings, stored: Platform, failures: Path
) -> None:
    await replace_nodes(stored, {"start": {**BROKEN, "name": "broken"}})
    async with worker_parts(client, settings):
        handle = await start(client, stored.message(log_batch=[{"n": n} for n in range(1500)]))
        result = await handle.result()
    assert result == {"success": True, "records": 1500, "delivered": 0, "filtered": 0, "failed": 1500}
    assert {failure["originalInput"]["n"] for failure in stored_failures(failures)} == set(range(1500))
    assert len((await handle.fetch_history()).events) < 150


async def test_a_large_batch_that_is_refused_is_stored_whole(
    client: Client, settings: Settings, stored: Platform, failures: Path
) -> None:
    await stored.update("Pipelines", {}, {"active": False})
    batch = [{"n": n, "padding": "x" * 17_000} for n in range(100)]
    async with worker_parts(client, settings):
        result = await process(client, stored.message(log_batch=batch))
    assert result["success"] is False
    assert result["failed"] == 100
    kept = sorted(stored_failures(failures), key=lambda failure: failure["context"]["firstRecordIndex"])
    assert [record for failure in kept for record in failure["originalInput"]] == batch


async def test_a_record_of_nearly_two_megabytes_that_is_refused_is_stored(
    client: Client, settings: Settings, stored: Platform, failures: Path
) -> None:
    await stored.update("Pipelines", {}, {"active": False})
    async with worker_parts(client, settings):
        result = await process(client, stored.message(log_data={"padding": "x" * 1_800_000}))
    assert result["success"] is False
    (failure,) = stored_failures(failures)
    assert len(failure["originalInput"]["padding"]) == 1_800_000
