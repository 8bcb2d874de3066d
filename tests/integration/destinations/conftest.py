"""A receiver and the shared clients, as a worker has them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from activities.destinations.base import DestinationContext, open_context
from workers.embedded.receiver import Receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of webhooks and Slack messages."""
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def context(receiver: Receiver) -> AsyncIterator[DestinationContext]:
    """Shared clients whose Slack is the receiver."""
    async with open_context(slack_api_url=receiver.slack_api_url) as context:
        yield context
