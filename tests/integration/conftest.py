"""A whole stack in the test's process: Temporal's test server, real Valkey and MongoDB protocol, an HTTP receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.data_converter import DATA_CONVERTER
from tests.harness import Platform
from workers.embedded.receiver import Receiver
from workers.embedded.servers import executable
from workers.settings import Settings

SLACK_TOKEN = "xoxb-held-out"
"""The token inside the sample connector's encrypted credentials."""


@pytest.fixture
async def temporal() -> AsyncIterator[WorkflowEnvironment]:
    """Temporal's test server: a retry's hours pass in an instant."""
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=executable("temporal-test-server"), data_converter=DATA_CONVERTER
    )
    async with environment:
        yield environment


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that speaks Slack and takes webhooks; it insists on the sample connector's token."""
    async with Receiver(slack_token=SLACK_TOKEN) as receiver:
        yield receiver


@pytest.fixture
async def stored(platform: dict[str, Any], mongo_url: str, database_name: str) -> Platform:
    """The platform's documents in a database of the test's own."""
    stored = Platform(platform, mongo_url, database_name)
    await stored.store()
    return stored


@pytest.fixture
def failures(tmp_path: Path) -> Path:
    """Folder of the failure store."""
    return tmp_path / "failures"


@pytest.fixture
def settings(stored: Platform, own_redis_url: str, receiver: Receiver, failures: Path) -> Settings:
    """Settings of a worker for the stored platform."""
    return Settings.model_validate(
        {
            "mongo_url": stored.url,
            "mongo_database": stored.database,
            "redis_url": own_redis_url,
            "sec_db": stored.data["env"]["SEC_DB"],
            "slack_api_url": receiver.slack_api_url,
            "failure_store_url": failures.as_uri(),
        }
    )
