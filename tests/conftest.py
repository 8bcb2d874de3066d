"""Fixtures that every kind of test shares: real servers from wheels, one set per test process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from workers.embedded.servers import Server, running, start_mongodb, start_valkey

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def platform() -> dict[str, Any]:
    """Documents, cached values and settings exactly as the platform's own servers wrote them."""
    data: dict[str, Any] = json.loads((DATA / "contract" / "platform.json").read_text())
    return data


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A Valkey server for tests that leave it running; tests that break theirs start their own."""
    async with running(start_valkey(tmp_path_factory.mktemp("valkey"))) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mongodb(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A MongoDB-protocol server for tests that leave it running."""
    async with running(start_mongodb(tmp_path_factory.mktemp("mongodb"))) as server:
        yield server


@pytest.fixture
def redis_url(valkey: Server) -> str:
    """Address of the shared Valkey server."""
    return f"redis://{valkey.address}/0"


@pytest.fixture
async def own_redis_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Address of an empty Valkey server of the test's own."""
    async with running(start_valkey(tmp_path_factory.mktemp("valkey"))) as server:
        yield f"redis://{server.address}/0"


@pytest.fixture
def mongo_url(mongodb: Server) -> str:
    """Address of the shared MongoDB-protocol server."""
    return f"mongodb://{mongodb.address}/?directConnection=true"


@pytest.fixture
def database_name() -> str:
    """A database that no other test uses."""
    return f"test_{uuid4().hex}"
