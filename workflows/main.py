"""MainWorkflow: one message, from its start by the API server to deliveries and stored failures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.contracts import (
        DeliverInput,
        ErrorDetails,
        NodeFailure,
        PipelineConfig,
        ProcessedRecords,
        ProcessRecordsInput,
        TargetDelivery,
    )
    from activities.data_converter import json_size
    from activities.delivery import Deliverer
    from activities.lookups import Lookups
    from activities.processing import RecordProcessor
    from activities.progress import DeliveryProgress
    from workflows import policies
    from workflows.envelope import (
        Envelope,
        InvalidMessageError,
        carried,
        guess_identifiers,
        next_chunk,
        payload_text,
        read_payload,
    )
    from workflows.failures import Failure, Failures, destination_queue
    from workflows.pacing import Pacing
    from workflows.reports import error_details, told_progress

NO_MESSAGE = RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"null"))
"""What a workflow started without an argument gets."""


@workflow.defn(name="MainWorkflow")
class MainWorkflow:
    """Runs a message's records through their pipeline, delivers what comes out and stores what fails.

    The input is read here, not by the SDK: one that is no message at all becomes a clear result, too.
    """

    @workflow.run
    async def run(self, message: RawValue = NO_MESSAGE) -> dict[str, Any]:
        """Process one message.

        Args:
            message: `{"metadata": {"organisationId", "projectId", "pipelineId", "messageId"}, "log_data": {...}}`, or
                the same with `log_batch`, a list of records.

        Returns:
            `{"success": true, "node_outputs": {nodeId: [output, ...]}}` (`node_outputs_omitted: true` in place of
            large ones; `failures`, their number, where there were any); for a batch `{"success": true, "records",
            "delivered", "filtered", "failed"}`, where each record is counted once; or
            `{"success": false, "reason", "error": {"type", "message"}}`, for a batch with the same counts.
        """
        try:
            value = read_payload(message)
        except InvalidMessageError as error:
            return await _refuse(None, payload_text(message), error)
        try:
            envelope = Envelope.parse(value)
        except InvalidMessageError as error:
            return await _refuse(value, carried(value), error)
        return await _MessageRun(envelope).run()


async def _refuse(value: Any, original: Any, problem: InvalidMessageError) -> dict[str, Any]:
    """Refuse an input that is no message."""
    failures = Failures(guess_identifiers(value, workflow.info().workflow_id), Pacing())
    error = ErrorDetails(type="InvalidMessageError", message=str(problem), description="reading the message")
    await failures.store([Failure(activity="validate_message", error=error, original=original)])
    return _refusal("the message is invalid", error)


def _refusal(reason: str, error: ErrorDetails) -> dict[str, Any]:
    return {"success": False, "reason": reason, "error": {"type": error.type, "message": error.message}}


@dataclass(slots=True)
class _MessageRun:
    """One valid message on its way: what has been delivered, what has failed."""

    envelope: Envelope
    pacing: Pacing = field(default_factory=Pacing)
    failures: Failures = field(init=False)
    delivered_records: set[int] = field(default_factory=set)
    failed_records: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.failures = Failures(self.envelope.message, self.pacing)

    async def run(self) -> dict[str, Any]:
        """Look up the pipeline, then process and deliver chunk by chunk."""
        try:
            config = await self._fetch_pipeline_config()
        except FailureError as error:
            return await self._refused(error, "the pipeline cannot be run", "fetch_pipeline_config", first=0)
        result: dict[str, Any] = {"success": True}
        first = 0
        while first < len(self.envelope.records):
            try:
                processed = await self._process(config, first)
            except FailureError as error:
                return await self._refused(error, "the records cannot be processed", "process_records", first=first)
            await self._deliver_and_store(processed)
            first += processed.processed
            if not self.envelope.is_batch:
                result |= _outputs(processed)
        return result | self._counts()

    async def _fetch_pipeline_config(self) -> PipelineConfig:
        return await workflow.execute_local_activity_method(
            Lookups.fetch_pipeline_config, self.envelope.message.pipeline, **policies.LOOKUP
        )

    async def _process(self, config: PipelineConfig, first: int) -> ProcessedRecords:
        request = ProcessRecordsInput(
            message=self.envelope.message,
            start_node_id=config.start_node_id,
            records=next_chunk(self.envelope.records, first),
            first_index=first,
            keep_outputs=not self.envelope.is_batch,
        )
        return await workflow.execute_local_activity_method(
            RecordProcessor.process_records, request, **policies.PROCESS
        )

    async def _refused(self, error: FailureError, reason: str, activity: str, *, first: int) -> dict[str, Any]:
        """End the message: what was not processed is stored, of a batch chunk by chunk."""
        _reraise_cancellation(error)
        details = error_details(error, reason)
        records = self.envelope.records
        if not self.envelope.is_batch:
            await self.failures.store([Failure(activity=activity, error=details, original=records[0])])
            return _refusal(reason, details)
        self.failed_records |= set(range(first, len(records)))
        while first < len(records):
            chunk = next_chunk(records, first)
            context = {"firstRecordIndex": first}
            await self.failures.store([Failure(activity=activity, error=details, original=chunk, context=context)])
            first += len(chunk)
        return _refusal(reason, details) | self._counts()

    async def _deliver_and_store(self, processed: ProcessedRecords) -> None:
        self.failed_records |= {failure.record_index for failure in processed.failures}
        await asyncio.gather(
            *(self._deliver(delivery) for delivery in processed.deliveries),
            self.failures.store(self._node_failure(failure) for failure in processed.failures),
        )

    def _node_failure(self, failure: NodeFailure) -> Failure:
        return Failure(
            activity="process_records",
            error=failure.error,
            original=self.envelope.records[failure.record_index],
            current=failure.current_input,
            context={"nodeId": failure.node_id, "recordIndex": failure.record_index},
        )

    async def _deliver(self, delivery: TargetDelivery) -> None:
        """Deliver to one target, then store what it rejected, and what was left when it was given up on."""
        request = DeliverInput(message=self.envelope.message, delivery=delivery)
        try:
            await self.pacing.ask_for(json_size(request))
            result = await workflow.execute_activity_method(
                Deliverer.deliver,
                request,
                task_queue=destination_queue(),
                summary=f"target {delivery.target_id}",
                **policies.DELIVER,
            )
        except FailureError as error:
            _reraise_cancellation(error)
            progress = DeliveryProgress.read(told_progress(error), len(delivery.items))
            given_up = error_details(error, f"delivering to target {delivery.target_id}")
            rejected = dict.fromkeys(progress.pending(), given_up)
            result = progress.result()
        else:
            rejected = {}
        rejected |= {item.position: item.error for item in result.rejected}
        await self._settle(delivery, rejected)

    async def _settle(self, delivery: TargetDelivery, rejected: dict[int, ErrorDetails]) -> None:
        for position, item in enumerate(delivery.items):
            (self.failed_records if position in rejected else self.delivered_records).add(item.record_index)
        await self.failures.store(
            self._rejection(delivery, position, error) for position, error in sorted(rejected.items())
        )

    def _rejection(self, delivery: TargetDelivery, position: int, error: ErrorDetails) -> Failure:
        item = delivery.items[position]
        return Failure(
            activity="deliver",
            error=error,
            original=self.envelope.records[item.record_index],
            current=item.record,
            context={"nodeId": item.node_id, "targetId": delivery.target_id, "recordIndex": item.record_index},
        )

    def _counts(self) -> dict[str, Any]:
        if not self.envelope.is_batch:
            return {"failures": self.failures.count} if self.failures.count else {}
        delivered = len(self.delivered_records - self.failed_records)
        failed = len(self.failed_records)
        records = len(self.envelope.records)
        return {
            "records": records,
            "delivered": delivered,
            "filtered": records - delivered - failed,
            "failed": failed,
        }


def _outputs(processed: ProcessedRecords) -> dict[str, Any]:
    if processed.node_outputs_omitted:
        return {"node_outputs_omitted": True}
    return {"node_outputs": processed.node_outputs or {}}


def _reraise_cancellation(error: FailureError) -> None:
    """A cancelled activity is no failure of the record: the workflow was told to stop."""
    if is_cancelled_exception(error):
        raise error
