"""The activity that runs records through their pipeline."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

from temporalio import activity

from activities.contracts import (
    DeliveryItem,
    ErrorDetails,
    NodeFailure,
    ProcessedRecords,
    ProcessRecordsInput,
    TargetDelivery,
)
from activities.data_converter import json_size
from activities.metrics import WorkerMetrics
from activities.pipeline import RunResult, compile_pipeline
from cache.catalog import Catalog

NODE_OUTPUTS_LIMIT_BYTES = 64 * 1024
"""Node outputs beyond this are left out of the workflow's result."""

RESULT_BYTES = 512 * 1024
"""What a result may hold; the records beyond it are left to the next call. One record alone may lead to more."""

RECORD_BYTES = 1_500_000
"""What one record may lead to: Temporal refuses payloads of 2 MB, and node outputs and brackets need some room."""

SLICE_SECONDS = 2.0
"""How long one call goes on taking up records: a slow pipeline gets further call by call, never in one that ends."""


class RecordProcessor:
    """Runs records through pipelines, each compiled once for as long as its nodes stay the same."""

    def __init__(self, catalog: Catalog, metrics: WorkerMetrics | None = None) -> None:
        self._catalog = catalog
        self._metrics = metrics or WorkerMetrics()

    @activity.defn
    async def process_records(self, request: ProcessRecordsInput) -> ProcessedRecords:
        """Run records through their pipeline's nodes, as many as fit into a result.

        Raises:
            PipelineInvalidError: The start node is missing or a cycle can be reached from it.
        """
        message = request.message
        nodes = await self._catalog.workflow_json(message.organisation_id, message.project_id, message.pipeline_id)
        # In a thread: a pipeline may be slow on purpose, and the event loop is everybody's.
        result = await asyncio.to_thread(_process, nodes, request)
        self._metrics.records(result.processed)
        return result


def _process(nodes: bytes, request: ProcessRecordsInput) -> ProcessedRecords:
    pipeline = compile_pipeline(nodes)
    pipeline.check(request.start_node_id)
    chunk = _Chunk()
    give_up_at = time.monotonic() + SLICE_SECONDS
    for index, record in enumerate(request.records, request.first_index):
        run = pipeline.run(record, request.start_node_id, keep_outputs=request.keep_outputs)
        if not chunk.take(_RecordOutcome(index, run)) or time.monotonic() > give_up_at:
            break
    return chunk.result(keep_outputs=request.keep_outputs)


class _RecordOutcome:
    """What one record leads to, within what a payload may hold, and its size in bytes."""

    def __init__(self, index: int, run: RunResult) -> None:
        self.items: list[tuple[str, DeliveryItem]] = []
        self.failures: list[NodeFailure] = []
        self.outputs = run.outputs
        self.size = 0
        for delivery in run.deliveries:
            item = DeliveryItem(record_index=index, node_id=delivery.node_id, record=delivery.record)
            if self._fits(item):
                self.items.append((delivery.target_id, item))
                self.size += len(delivery.target_id)
            else:
                self._fail(_too_large(index, delivery.node_id))
        for failed in run.failures:
            error = ErrorDetails(type=failed.error_type, message=failed.message)
            self._fail(NodeFailure(record_index=index, node_id=failed.node_id, current_input=failed.input, error=error))

    def _fail(self, failure: NodeFailure) -> None:
        if not self._fits(failure):
            failure = replace(failure, current_input=None)
            self.size += json_size(failure)
        self.failures.append(failure)

    def _fits(self, part: DeliveryItem | NodeFailure) -> bool:
        size = json_size(part)
        if self.size + size > RECORD_BYTES:
            return False
        self.size += size
        return True


@dataclass(slots=True)
class _Chunk:
    """What the records so far lead to."""

    processed: int = 0
    size: int = 0
    items: dict[str, list[DeliveryItem]] = field(default_factory=dict)
    failures: list[NodeFailure] = field(default_factory=list)
    outputs: dict[str, list[Any]] = field(default_factory=dict)

    def take(self, record: _RecordOutcome) -> bool:
        """Take up a record's outcome, the first one in any case; False if there is no room for it."""
        if self.processed and self.size + record.size > RESULT_BYTES:
            return False
        self.processed += 1
        self.size += record.size
        self.failures += record.failures
        for target_id, item in record.items:
            self.items.setdefault(target_id, []).append(item)
        for node_id, outputs in record.outputs.items():
            self.outputs.setdefault(node_id, []).extend(outputs)
        return True

    def result(self, *, keep_outputs: bool) -> ProcessedRecords:
        omitted = keep_outputs and json_size(self.outputs) > NODE_OUTPUTS_LIMIT_BYTES
        return ProcessedRecords(
            processed=self.processed,
            deliveries=[TargetDelivery(target_id=target, items=items) for target, items in self.items.items()],
            failures=self.failures,
            node_outputs=self.outputs if keep_outputs and not omitted else None,
            node_outputs_omitted=omitted,
        )


def _too_large(index: int, node_id: str) -> NodeFailure:
    message = f"what node {node_id} delivers does not fit into the {RECORD_BYTES} bytes that a record may lead to"
    error = ErrorDetails(type="RecordTooLargeError", message=message)
    return NodeFailure(record_index=index, node_id=node_id, current_input=None, error=error)
