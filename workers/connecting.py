"""Connecting to Temporal: for as long as it takes to come up, saying why it has not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConnectConfig
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode
from tenacity import RetryCallState, retry, retry_if_exception_type, wait_exponential_jitter

from activities.data_converter import DATA_CONVERTER
from workers.settings import UnusableSettingError

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
REMINDER_SECONDS = 60.0
LONGEST_REASON = 300
MASK = "***"


async def connect(config: ClientConnectConfig, runtime: Runtime, stop: asyncio.Event) -> Client | None:
    """Connect to Temporal, however long it takes to come up; None if `stop` is set before it has.

    Args:
        config: Where it is, and what it is told.
        runtime: What the client runs on.
        stop: Set to give up.

    Raises:
        UnusableSettingError: It cannot be connected to so, or has no such namespace.
    """
    connecting = asyncio.create_task(_connect(config, runtime))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([connecting, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if connecting.done():
        return await connecting
    connecting.cancel()
    await asyncio.wait([connecting])
    return None


async def _connect(config: ClientConnectConfig, runtime: Runtime) -> Client:
    again = retry(
        retry=retry_if_exception_type(RuntimeError),  # what the SDK raises for any failed call
        wait=wait_exponential_jitter(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
        before_sleep=Unreached(config),
    )
    try:
        client: Client = await again(Client.connect)(**config, data_converter=DATA_CONVERTER, runtime=runtime)
    except ValueError as error:
        raise UnusableSettingError(f"TEMPORAL_*: {_without_secrets(str(error), config)}") from None
    await _check_namespace(client, config["target_host"])
    return client


async def _check_namespace(client: Client, address: str) -> None:
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            name = client.namespace
            raise UnusableSettingError(f"TEMPORAL_NAMESPACE: Temporal at {address} has no namespace {name}") from None
        # Whatever else it is, the workers find it out as they start to poll.


class Unreached:
    """Says that Temporal cannot be reached, and why: at the first failure, and once a minute from then on.

    Args:
        config: Where it is; the secrets in it are masked.
        clock: Seconds, monotonic.
    """

    def __init__(self, config: ClientConnectConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._quiet_until = 0.0

    def __call__(self, state: RetryCallState) -> None:
        """Called before each pause, as tenacity does."""
        now = self._clock()
        if state.attempt_number > 1 and now < self._quiet_until:
            return
        self._quiet_until = now + REMINDER_SECONDS
        error = state.outcome.exception() if state.outcome is not None else None
        logger.warning(
            "Temporal at %s cannot be reached; connecting goes on in the background (%s)",
            self._config["target_host"],
            _without_secrets(str(error), self._config)[:LONGEST_REASON],
        )


def _without_secrets(text: str, config: ClientConnectConfig) -> str:
    secrets: list[Any] = [config.get("api_key", ""), *config.get("rpc_metadata", {}).values()]
    for secret in filter(None, secrets):
        text = text.replace(str(secret), MASK)
    return text
