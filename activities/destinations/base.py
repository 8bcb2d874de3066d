"""What a destination is: made once with the shared clients, it delivers one record at a time to a target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import aiohttp

DELIVERY_TIMEOUT_SECONDS = 10.0
CONNECTIONS_PER_HOST = 64
"""Bounds what one slow receiver can hold; there is no bound over all, so that it holds up nobody else."""
SLACK_API_URL = "https://slack.com/api/"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationTarget:
    """Where to deliver to. Its repr shows neither credentials nor parameters, which may hold secret headers.

    Attributes:
        target_id: The target's id, for messages.
        name: What its owner calls it.
        parameters: `destinationParams`, as stored.
        credentials: `creds` of its connector, decrypted.
    """

    target_id: str
    name: str
    parameters: Mapping[str, Any] = field(repr=False)
    credentials: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationContext:
    """What all destinations of a process share.

    Attributes:
        session: The HTTP client. It must keep no cookies: its requests are made for different organisations.
        slack_api_url: Base address of Slack's Web API.
        timeout_seconds: How long one delivery may take, from waiting for a connection to the answer's end.
    """

    session: aiohttp.ClientSession
    slack_api_url: str = SLACK_API_URL
    timeout_seconds: float = DELIVERY_TIMEOUT_SECONDS


@asynccontextmanager
async def open_context(
    *, slack_api_url: str = SLACK_API_URL, timeout_seconds: float = DELIVERY_TIMEOUT_SECONDS
) -> AsyncIterator[DestinationContext]:
    """What destinations share, for the length of a `with` block; see `DestinationContext` for the arguments."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=CONNECTIONS_PER_HOST),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "datanadhi-worker"},
    )
    async with session:
        yield DestinationContext(session=session, slack_api_url=slack_api_url, timeout_seconds=timeout_seconds)


class Destination(ABC):
    """A kind of receiver. A subclass in a file of its own and one line in the registry make a new one.

    Attributes:
        integration_type: The connector's `integrationType` that it serves.
        concurrency: How many deliveries of one batch may be under way at once; 1 keeps their order.
    """

    integration_type: ClassVar[str]
    concurrency: ClassVar[int] = 1

    def __init__(self, context: DestinationContext) -> None:
        self._context = context

    @abstractmethod
    async def deliver(self, target: DestinationTarget, record: dict[str, Any], idempotency_key: str) -> None:
        """Deliver a record.

        Args:
            target: Where to.
            record: What: a JSON object.
            idempotency_key: Visible ASCII; the same for every attempt at this delivery, another for any other.

        Raises:
            InvalidConfigurationError: The target or its connector cannot be used as it stands.
            InvalidRecordError: The record has no form that the destination could be sent.
            RejectedError: The destination refused the record for good.
            UnavailableError: It is away for now; it may have said until when.
        """
