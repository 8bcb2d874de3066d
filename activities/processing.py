"""The activity that runs records through their pipeline."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
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
from activities.pipeline import CompiledPipeline, RunResult, compile_pipeline
from cache.catalog import Catalog

NODE_OUTPUTS_LIMIT_BYTES = 64 * 1024
"""Node outputs beyond this are left out of the workflow's result."""

RESULT_LIMIT_BYTES = 1_500_000
"""What one result may hold: Temporal refuses payloads of 2 MB, and names and brackets need some room."""

SLICE_SECONDS = 0.005
"""How long the event loop is held before others get their turn."""


class RecordProcessor:
    """Runs records through pipelines, each compiled once for as long as its nodes stay the same."""

    def __init__(self, catalog: Catalog, metrics: WorkerMetrics | None = None) -> None:
        self._catalog = catalog
        self._metrics = metrics or WorkerMetrics()

    @activity.defn
    async def process_records(self, request: ProcessRecordsInput) -> ProcessedRecords:
        """Run records through their pipeline's nodes.

        Raises:
            PipelineInvalidError: The start node is missing or a cycle can be reached from it.
        """
        message = request.message
        nodes = await self._catalog.workflow_json(message.organisation_id, message.project_id, message.pipeline_id)
        pipeline = compile_pipeline(nodes)
        pipeline.check(request.start_node_id)
        outcome = _Outcome()
        await _run_all(pipeline, request, outcome)
        self._metrics.records(len(request.records))
        return outcome.result(keep_outputs=request.keep_outputs)


async def _run_all(pipeline: CompiledPipeline, request: ProcessRecordsInput, outcome: _Outcome) -> None:
    slice_end = time.perf_counter() + SLICE_SECONDS
    for index, record in enumerate(request.records, request.first_index):
        outcome.add(index, pipeline.run(record, request.start_node_id, keep_outputs=request.keep_outputs))
        if time.perf_counter() > slice_end:
            await asyncio.sleep(0)
            slice_end = time.perf_counter() + SLICE_SECONDS


@dataclass(slots=True)
class _Outcome:
    """What has become of the records so far, kept within what a payload may hold."""

    items: dict[str, list[DeliveryItem]] = field(default_factory=dict)
    failures: list[NodeFailure] = field(default_factory=list)
    outputs: dict[str, list[Any]] = field(default_factory=dict)
    size: int = 0

    def add(self, index: int, run: RunResult) -> None:
        for delivery in run.deliveries:
            if self._fits(delivery.record):
                item = DeliveryItem(record_index=index, node_id=delivery.node_id, record=delivery.record)
                self.items.setdefault(delivery.target_id, []).append(item)
            else:
                self.failures.append(_too_large(index, delivery.node_id))
        for failure in run.failures:
            kept = failure.input if self._fits(failure.input) else None
            error = ErrorDetails(type=failure.error_type, message=failure.message)
            self.failures.append(
                NodeFailure(record_index=index, node_id=failure.node_id, current_input=kept, error=error)
            )
        for node_id, outputs in run.outputs.items():
            self.outputs.setdefault(node_id, []).extend(outputs)

    def result(self, *, keep_outputs: bool) -> ProcessedRecords:
        omitted = keep_outputs and json_size(self.outputs) > NODE_OUTPUTS_LIMIT_BYTES
        return ProcessedRecords(
            deliveries=[TargetDelivery(target_id=target, items=items) for target, items in self.items.items()],
            failures=self.failures,
            node_outputs=self.outputs if keep_outputs and not omitted else None,
            node_outputs_omitted=omitted,
        )

    def _fits(self, value: Any) -> bool:
        size = json_size(value)
        if self.size + size > RESULT_LIMIT_BYTES:
            return False
        self.size += size
        return True


def _too_large(index: int, node_id: str) -> NodeFailure:
    message = f"what node {node_id} delivers does not fit into the message's {RESULT_LIMIT_BYTES} bytes"
    error = ErrorDetails(type="RecordTooLargeError", message=message)
    return NodeFailure(record_index=index, node_id=node_id, current_input=None, error=error)
