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
        DeliverResult,
        ErrorDetails,
        FailureReport,
        MessageId,
        NodeFailure,
        PipelineConfig,
        ProcessedRecords,
        ProcessRecordsInput,
        TargetDelivery,
    )
    from activities.delivery import Deliverer
    from activities.failures import FailureLogger
    from activities.lookups import Lookups
    from activities.processing import RecordProcessor
    from workflows import policies
    from workflows.envelope import (
        Envelope,
        InvalidMessageError,
        carried,
        chunks,
        guess_identifiers,
        payload_text,
        read_payload,
    )
    from workflows.reports import bounded, error_details, timestamp

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
            `{"success": false, "reason", "error": {"type", "message"}}`.
        """
        try:
            value = read_payload(message)
        except InvalidMessageError as error:
            return await _Failures(guess_identifiers(None)).refuse_message(payload_text(message), str(error))
        try:
            envelope = Envelope.parse(value)
        except InvalidMessageError as error:
            return await _Failures(guess_identifiers(value)).refuse_message(carried(value), str(error))
        return await _MessageRun(envelope).run()


@dataclass(slots=True)
class _Failures:
    """Stores a message's failures, some at a time, each under a key of its own."""

    message: MessageId
    count: int = 0
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(policies.FAILURES_IN_FLIGHT))

    async def store(
        self, activity: str, error: ErrorDetails, original: Any, current: Any = None, **context: Any
    ) -> None:
        """Store one failure; returns once it is stored, however long the store is away."""
        report = FailureReport(
            message=self.message,
            workflow=workflow.info().workflow_type,
            activity=activity,
            timestamp=timestamp(workflow.now(), self.count),
            original_input=original,
            current_input=current,
            error=error,
            context=context,
        )
        self.count += 1
        async with self._slots:
            await workflow.execute_activity_method(
                FailureLogger.log_failure,
                bounded(report),
                task_queue=_destination_queue(),
                **policies.LOG_FAILURE,
            )

    async def refuse(self, reason: str, activity: str, error: ErrorDetails, original: Any) -> dict[str, Any]:
        """Store a failure of the message as a whole and return the workflow's result."""
        await self.store(activity, error, original)
        return {"success": False, "reason": reason, "error": {"type": error.type, "message": error.message}}

    async def refuse_message(self, value: Any, problem: str) -> dict[str, Any]:
        """Refuse an input that is no message."""
        error = ErrorDetails(type="InvalidMessageError", message=problem, description="reading the message")
        return await self.refuse("the message is invalid", "validate_message", error, value)


@dataclass(slots=True)
class _MessageRun:
    """One valid message on its way: what has been delivered, what has failed."""

    envelope: Envelope
    failures: _Failures = field(init=False)
    delivered_records: set[int] = field(default_factory=set)
    failed_records: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.failures = _Failures(self.envelope.message)

    async def run(self) -> dict[str, Any]:
        """Look up the pipeline, then process and deliver chunk by chunk."""
        try:
            config = await self._fetch_pipeline_config()
        except FailureError as error:
            return await self._refused(error, "the pipeline cannot be run", "fetch_pipeline_config", first=0)
        result: dict[str, Any] = {"success": True}
        for first, records in chunks(self.envelope.records):
            try:
                processed = await self._process(config, first, records)
            except FailureError as error:
                return await self._refused(error, "the records cannot be processed", "process_records", first=first)
            await self._deliver_and_store(processed)
            if not self.envelope.is_batch:
                result |= _outputs(processed)
        return result | self._counts()

    async def _fetch_pipeline_config(self) -> PipelineConfig:
        return await workflow.execute_local_activity_method(
            Lookups.fetch_pipeline_config, self.envelope.message.pipeline, **policies.LOOKUP
        )

    async def _process(self, config: PipelineConfig, first: int, records: list[Any]) -> ProcessedRecords:
        request = ProcessRecordsInput(
            message=self.envelope.message,
            start_node_id=config.start_node_id,
            records=records,
            first_index=first,
            keep_outputs=not self.envelope.is_batch,
        )
        return await workflow.execute_local_activity_method(
            RecordProcessor.process_records, request, **policies.PROCESS
        )

    async def _refused(self, error: FailureError, reason: str, activity: str, *, first: int) -> dict[str, Any]:
        """End the message as a whole; of a batch, only what was not processed yet is stored as its input."""
        _reraise_cancellation(error)
        batch = self.envelope.is_batch
        original = self.envelope.records[first:] if batch else self.envelope.original_input
        return await self.failures.refuse(reason, activity, error_details(error, reason), original)

    async def _deliver_and_store(self, processed: ProcessedRecords) -> None:
        self.failed_records |= {failure.record_index for failure in processed.failures}
        await asyncio.gather(
            *(self._deliver(delivery) for delivery in processed.deliveries),
            *(self._store_node_failure(failure) for failure in processed.failures),
        )

    async def _store_node_failure(self, failure: NodeFailure) -> None:
        await self.failures.store(
            "process_records",
            failure.error,
            self.envelope.records[failure.record_index],
            failure.current_input,
            nodeId=failure.node_id,
            recordIndex=failure.record_index,
        )

    async def _deliver(self, delivery: TargetDelivery) -> None:
        """Deliver to one target, then store what it rejected: all of it where the activity itself failed."""
        try:
            result = await workflow.execute_activity_method(
                Deliverer.deliver,
                DeliverInput(message=self.envelope.message, delivery=delivery),
                task_queue=_destination_queue(),
                summary=f"target {delivery.target_id}",
                **policies.DELIVER,
            )
        except FailureError as error:
            _reraise_cancellation(error)
            details = error_details(error, f"delivering to target {delivery.target_id}")
            rejected = dict.fromkeys(range(len(delivery.items)), details)
        else:
            rejected = _rejections(result)
        await self._settle(delivery, rejected)

    async def _settle(self, delivery: TargetDelivery, rejected: dict[int, ErrorDetails]) -> None:
        for position, item in enumerate(delivery.items):
            (self.failed_records if position in rejected else self.delivered_records).add(item.record_index)
        await asyncio.gather(
            *(self._store_rejection(delivery, position, error) for position, error in rejected.items())
        )

    async def _store_rejection(self, delivery: TargetDelivery, position: int, error: ErrorDetails) -> None:
        item = delivery.items[position]
        await self.failures.store(
            "deliver",
            error,
            self.envelope.records[item.record_index],
            item.record,
            nodeId=item.node_id,
            targetId=delivery.target_id,
            recordIndex=item.record_index,
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


def _rejections(result: DeliverResult) -> dict[int, ErrorDetails]:
    return {item.position: item.error for item in result.rejected}


def _destination_queue() -> str:
    return workflow.info().task_queue + policies.DESTINATION_QUEUE_SUFFIX


def _reraise_cancellation(error: FailureError) -> None:
    """A cancelled activity is no failure of the record: the workflow was told to stop."""
    if is_cancelled_exception(error):
        raise error
