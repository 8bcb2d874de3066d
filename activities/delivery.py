"""The activity that delivers records to one target. Credentials are opened here, and only here."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity

from activities.contracts import (
    DeliverInput,
    DeliverResult,
    DeliveryItem,
    ErrorDetails,
    MessageId,
    TargetConfig,
    TargetId,
)
from activities.destinations.base import Destination, DestinationTarget
from activities.errors import (
    FinalError,
    InvalidConfigurationError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
    WorkerError,
    translate,
)
from activities.lookups import find_target
from activities.metrics import WorkerMetrics
from activities.progress import DeliveryProgress
from cache.catalog import Catalog

HEARTBEAT_SECONDS = 1.0
"""A worker that died is noticed when its heartbeats stop; the time-out for that is in `workflows/policies.py`."""

AFTER_SHUTDOWN = timedelta(milliseconds=100)
"""How soon another worker goes on with what this one left when it was told to stop."""

logger = logging.getLogger(__name__)


class Deliverer:
    """Delivers records through the destinations it is given, by integration type."""

    def __init__(
        self, catalog: Catalog, destinations: Mapping[str, Destination], metrics: WorkerMetrics | None = None
    ) -> None:
        self._catalog = catalog
        self._destinations = destinations
        self._metrics = metrics or WorkerMetrics()

    @activity.defn
    async def deliver(self, request: DeliverInput) -> DeliverResult:
        """Deliver a target's items. A retry goes on where the attempt before it stopped, as its heartbeat tells.

        Raises:
            NotFoundError: The target or its connector does not exist.
            InvalidConfigurationError: One of them cannot be used.
            UnavailableError: The destination is away, or this worker is told to stop. Its details tell what is done.
        """
        progress = DeliveryProgress.read(activity.info().heartbeat_details, len(request.delivery.items))
        config = await find_target(self._catalog, _target_id(request))
        connector = await self._connector(request.message, config)
        attempt = _Attempt(
            request=request,
            progress=progress,
            destination=self._destination(connector, config),
            target=_opened(config, connector),
            metrics=self._metrics,
            reopen=lambda: self._reopened(request.message, config),
        )
        await attempt.run()
        return progress.result()

    async def _connector(self, message: MessageId, config: TargetConfig, *, refresh: bool = False) -> Mapping[str, Any]:
        connector = await self._catalog.connector(
            message.organisation_id, message.project_id, config.connector_id, refresh=refresh
        )
        if connector is None:
            raise NotFoundError(f"connector {config.connector_id} of target {config.target_id} does not exist")
        return connector

    async def _reopened(self, message: MessageId, config: TargetConfig) -> DestinationTarget:
        return _opened(config, await self._connector(message, config, refresh=True))

    def _destination(self, connector: Mapping[str, Any], config: TargetConfig) -> Destination:
        destination = self._destinations.get(str(connector.get("integrationType")))
        if destination is None:
            known = ", ".join(sorted(self._destinations))
            raise InvalidConfigurationError(f"connector {config.connector_id} is of no known type; known are {known}")
        return destination


def _target_id(request: DeliverInput) -> TargetId:
    return TargetId(
        organisation_id=request.message.organisation_id,
        project_id=request.message.project_id,
        pipeline_id=request.message.pipeline_id,
        target_id=request.delivery.target_id,
    )


def _opened(config: TargetConfig, connector: Mapping[str, Any]) -> DestinationTarget:
    return DestinationTarget(
        target_id=config.target_id, name=config.name, parameters=config.parameters, credentials=connector["creds"]
    )


@dataclass(slots=True)
class _Attempt:
    """One attempt at a target's items, several at a time where the destination allows it."""

    request: DeliverInput
    progress: DeliveryProgress
    destination: Destination
    target: DestinationTarget
    metrics: WorkerMetrics
    reopen: Callable[[], Awaitable[DestinationTarget]]
    away: UnavailableError | None = None
    reopening: asyncio.Task[DestinationTarget] | None = None

    async def run(self) -> None:
        """Deliver all that is pending; take up no more once the destination is away or the worker is to stop."""
        positions = iter(self.progress.pending())
        beating = asyncio.create_task(self._beat())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.destination.concurrency):
                    group.create_task(self._work(positions))
        finally:
            beating.cancel()
        if not self.progress.finished:
            self._interrupted()

    def _interrupted(self) -> None:
        """Save what is done for the next attempt, and for whoever may give up on it."""
        told = self.progress.tell()
        activity.heartbeat(*told)
        if self.away is None:
            raise UnavailableError("the worker was told to stop", retry_after=AFTER_SHUTDOWN, details=told)
        raise UnavailableError(str(self.away), retry_after=self.away.retry_after, details=told)

    async def _beat(self) -> None:
        """Tell the server that the attempt is alive, and how far it has come."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            activity.heartbeat(*self.progress.tell())

    async def _work(self, positions: Iterator[int]) -> None:
        for position in positions:
            if self.away is not None or activity.is_worker_shutdown():
                return
            await self._settle(position, self.request.delivery.items[position])

    async def _settle(self, position: int, item: DeliveryItem) -> None:
        try:
            await self._deliver(item)
        except FinalError as error:
            self.progress.reject(position, ErrorDetails(type=type(error).__name__, message=str(error)))
            outcome = "rejected"
        except UnavailableError as error:
            self.away = error
            outcome = "unavailable"
        else:
            self.progress.deliver(position)
            outcome = "delivered"
        self.metrics.delivery(self.destination.integration_type, outcome)

    async def _deliver(self, item: DeliveryItem) -> None:
        """Deliver an item, a second time where its credentials were refused and have been replaced since."""
        key = idempotency_key(self.request.message, item)
        used = self.target
        try:
            await self._foreseen(self.destination.deliver(used, item.record, key))
        except UnauthorizedError:
            current = await self._foreseen(self._reopened())
            if current.credentials == used.credentials:
                raise
            self.target = current
            await self._foreseen(self.destination.deliver(current, item.record, key))

    async def _reopened(self) -> DestinationTarget:
        """The target with its connector read past the cache, once an attempt, however many items ask."""
        if self.reopening is None:
            self.reopening = asyncio.ensure_future(self.reopen())
        return await asyncio.shield(self.reopening)

    async def _foreseen(self, work: Awaitable[Any]) -> Any:
        """Do it, so that only errors of ours come out: one item's fault must not undo what others have done."""
        try:
            return await work
        except WorkerError:
            raise
        except Exception as error:  # a destination of another package may raise anything
            known = translate(error)
            if known is None:
                logger.exception("Unforeseen error in destination %s", self.destination.integration_type)
                known = UnavailableError(f"unforeseen {type(error).__name__} in {self.destination.integration_type}")
            raise known from None


def idempotency_key(message: MessageId, item: DeliveryItem) -> str:
    """A delivery's stable name: the same for every attempt at it, another for any other delivery (32 hex digits)."""
    parts = (
        message.organisation_id,
        message.project_id,
        message.pipeline_id,
        message.message_id,
        str(item.record_index),
        item.node_id,
    )
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
