"""What a worker process runs beside: Temporal's development server, the platform's documents, Valkey, a receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from tests.harness import Platform
from tests.worker_command import SLACK_TOKEN, Surroundings
from workers.embedded.receiver import Receiver
from workers.embedded.servers import Server, running, start_temporal, start_valkey


@pytest.fixture
async def temporal_server(tmp_path: Path) -> AsyncIterator[Server]:
    """Temporal's development server."""
    async with running(start_temporal(tmp_path / "temporal")) as server:
        yield server


@pytest.fixture
async def client(temporal_server: Server) -> Client:
    """A client as the API server has one: with the SDK's own data converter."""
    return await Client.connect(temporal_server.address)


@pytest.fixture
async def surroundings(
    platform: dict[str, Any], mongo_url: str, database_name: str, temporal_server: Server, tmp_path: Path
) -> AsyncIterator[Surroundings]:
    """The platform's documents in MongoDB, Valkey and a receiver."""
    stored = Platform(platform, mongo_url, database_name)
    await stored.store()
    async with running(start_valkey(tmp_path / "valkey")) as valkey, Receiver(slack_token=SLACK_TOKEN) as receiver:
        yield Surroundings(stored, valkey, receiver, tmp_path, temporal_server.address)
