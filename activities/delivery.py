"""The activity that delivers records to one target. Credentials are opened here, and only here."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from temporalio import activity

from activities.contracts import (
    DeliverInput,
    DeliverResult,
    DeliveryItem,
    ErrorDetails,
    MessageId,
    RejectedItem,
    TargetConfig,
    TargetId,
)
from activities.destinations.base import Destination, DestinationTarget
from activities.errors import FinalError, InvalidConfigurationError, NotFoundError, UnavailableError
from activities.lookups import find_target
from activities.metrics import WorkerMetrics
from cache.catalog import Catalog

HEARTBEAT_SECONDS = 3.0
"""A worker that died is noticed when its heartbeats stop; the time-out for that is in `workflows/policies.py`."""


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
            UnavailableError: The destination is away; what it took before that is not sent again.
        """
        destination, target = await self._resolve(request)
        batch = _Batch(request, _Progress.resumed(len(request.delivery.items)), destination, target, self._metrics)
        await batch.run()
        return batch.progress.result()

    async def _resolve(self, request: DeliverInput) -> tuple[Destination, DestinationTarget]:
        message = request.message
        config = await find_target(
            self._catalog,
            TargetId(
                organisation_id=message.organisation_id,
                project_id=message.project_id,
                pipeline_id=message.pipeline_id,
                target_id=request.delivery.target_id,
            ),
        )
        connector = await self._catalog.connector(message.organisation_id, message.project_id, config.connector_id)
        if connector is None:
            raise NotFoundError(f"connector {config.connector_id} of target {config.target_id} does not exist")
        return self._destination(connector, config), _with_credentials(config, connector)

    def _destination(self, connector: Mapping[str, Any], config: TargetConfig) -> Destination:
        destination = self._destinations.get(str(connector.get("integrationType")))
        if destination is None:
            known = ", ".join(sorted(self._destinations))
            raise InvalidConfigurationError(f"connector {config.connector_id} is of no known type; known are {known}")
        return destination


def _with_credentials(config: TargetConfig, connector: Mapping[str, Any]) -> DestinationTarget:
    return DestinationTarget(
        target_id=config.target_id, name=config.name, parameters=config.parameters, credentials=connector["creds"]
    )


@dataclass(slots=True)
class _Progress:
    """Which items are done: a letter an item (`.` pending, `d` delivered, `r` rejected), and why some were rejected."""

    states: bytearray
    rejected: list[RejectedItem] = field(default_factory=list)

    @classmethod
    def resumed(cls, count: int) -> _Progress:
        """What the attempt before this one reached, else nothing."""
        details = activity.info().heartbeat_details
        if len(details) != 2 or len(details[0]) != count:  # noqa: PLR2004 - the two that `heartbeat` records
            return cls(bytearray(b"." * count))
        states, rejected = details
        items = [RejectedItem(position=r["position"], error=ErrorDetails(**r["error"])) for r in rejected]
        return cls(bytearray(states, "ascii"), items)

    def pending(self) -> list[int]:
        return [position for position, state in enumerate(self.states) if state == ord(".")]

    def delivered(self, position: int) -> None:
        self.states[position] = ord("d")
        self._tell()

    def reject(self, position: int, error: FinalError) -> None:
        self.states[position] = ord("r")
        details = ErrorDetails(type=type(error).__name__, message=str(error))
        self.rejected.append(RejectedItem(position=position, error=details))
        self._tell()

    def _tell(self) -> None:
        """Save what is done for a next attempt. Once all is done there will be none, and a call is saved instead."""
        if b"." in self.states:
            self.heartbeat()

    def heartbeat(self) -> None:
        activity.heartbeat(self.states.decode("ascii"), [asdict(item) for item in self.rejected])

    def result(self) -> DeliverResult:
        in_order = sorted(self.rejected, key=lambda item: item.position)
        return DeliverResult(delivered=self.states.count(b"d"), rejected=in_order)


@dataclass(slots=True)
class _Batch:
    """One attempt at a target's items, several at a time where the destination allows it."""

    request: DeliverInput
    progress: _Progress
    destination: Destination
    target: DestinationTarget
    metrics: WorkerMetrics
    unavailable: UnavailableError | None = None

    async def run(self) -> None:
        """Deliver all that is pending; stop taking up more once the destination is away."""
        positions = iter(self.progress.pending())
        beating = asyncio.create_task(self._beat())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.destination.concurrency):
                    group.create_task(self._work(positions))
        finally:
            beating.cancel()
        if self.unavailable is not None:
            raise self.unavailable

    async def _beat(self) -> None:
        """Tell the server that the attempt is alive, however long a single delivery takes."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            self.progress.heartbeat()

    async def _work(self, positions: Iterator[int]) -> None:
        for position in positions:
            if self.unavailable is not None:
                return
            await self._deliver(position, self.request.delivery.items[position])

    async def _deliver(self, position: int, item: DeliveryItem) -> None:
        key = idempotency_key(self.request.message, item)
        try:
            await self.destination.deliver(self.target, item.record, key)
        except FinalError as error:
            self.progress.reject(position, error)
            outcome = "rejected"
        except UnavailableError as error:
            self.unavailable = error
            outcome = "unavailable"
        else:
            self.progress.delivered(position)
            outcome = "delivered"
        self.metrics.delivery(self.destination.integration_type, outcome)


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
