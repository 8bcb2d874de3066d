"""Messages as the API server sends them, and what their workflows return."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio.client import Client, WorkflowFailureError
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError

from activities.data_converter import DATA_CONVERTER, json_size
from workers.demo.records import Record
from workers.demo.sample import ORGANISATION_ID, PIPELINE_ID, PROJECT_ID, TASK_QUEUE

WORKFLOW_TYPE = "MainWorkflow"
CONCURRENCY = 40
PATIENCE_SECONDS = 60.0
"""With no result for so long, the rest is given up."""

BATCH_BYTES = 1024 * 1024
"""A batch ends early rather than near the 2 MB that Temporal takes for a payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What one workflow is started with. Each record bears an id of its own as `messageId`."""

    message_id: str
    records: Sequence[Record]
    is_batch: bool = False

    @property
    def workflow_id(self) -> str:
        """As the API server composes it."""
        return f"log_process-{ORGANISATION_ID}-{PROJECT_ID}-{PIPELINE_ID}-{self.message_id}"

    @property
    def argument(self) -> dict[str, Any]:
        """The workflow's one argument."""
        content = {"log_batch": list(self.records)} if self.is_batch else {"log_data": self.records[0]}
        return {
            "metadata": {
                "organisationId": ORGANISATION_ID,
                "projectId": PROJECT_ID,
                "pipelineId": PIPELINE_ID,
                "messageId": self.message_id,
            },
            **content,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A message's result, or why there is none."""

    message: Message
    result: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def run_name() -> str:
    """A random name for this run, which its ids begin with."""
    return f"demo-{secrets.token_hex(4)}"


def record_id(run: str, number: int) -> str:
    """The id of a run's record, by its number from 1."""
    return f"{run}-{number:07}"


def make_messages(records: Sequence[Record], run: str, batch_size: int | None = None) -> list[Message]:
    """One message a record, or one a batch."""
    named = [{**record, "messageId": record_id(run, number)} for number, record in enumerate(records, 1)]
    if batch_size is None:
        return [Message(message_id=record["messageId"], records=[record]) for record in named]
    return [
        Message(message_id=f"{run}-batch-{number}", records=batch, is_batch=True)
        for number, batch in enumerate(_batches(named, batch_size), 1)
    ]


def _batches(records: Sequence[Record], batch_size: int) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size = 0
    for record in records:
        length = _size(record)
        if batch and (len(batch) == batch_size or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    if batch:
        yield batch


def _size(record: Record) -> int:
    """Bytes of a record in a payload; one that is nested too deeply to tell gets a batch of its own."""
    try:
        return json_size(record)
    except RecursionError:
        return BATCH_BYTES


async def connect(address: str) -> Client:
    """A client that sends JSON in a record's own order, and whose core prints nothing."""
    runtime = Runtime(telemetry=TelemetryConfig(logging=None))
    return await Client.connect(address, data_converter=DATA_CONVERTER, runtime=runtime)


async def send_all(client: Client, messages: Sequence[Message], on_done: Callable[[Message], None]) -> list[Outcome]:
    """Run a workflow for every message, some at a time; `on_done` is told of each that has ended.

    Where no result has come for a while, none is waited for any more.
    """
    remaining = iter(messages)
    outcomes: dict[str, Outcome] = {}
    clock = asyncio.get_running_loop()

    async def work() -> None:
        for message in remaining:
            outcomes[message.message_id] = await _send(client, message)
            deadline.reschedule(clock.time() + PATIENCE_SECONDS)
            on_done(message)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS) as deadline, asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(work())
    unfinished = f"no result; nothing came for {PATIENCE_SECONDS:.0f} s"
    return [outcomes.get(each.message_id, Outcome(message=each, problem=unfinished)) for each in messages]


async def _send(client: Client, message: Message) -> Outcome:
    try:
        result = await client.execute_workflow(
            WORKFLOW_TYPE, message.argument, id=message.workflow_id, task_queue=TASK_QUEUE
        )
    except WorkflowFailureError as error:
        return Outcome(message=message, problem=f"its workflow failed: {type(error.cause).__name__}")
    except (RPCError, RecursionError, ValueError) as error:  # too large or too deep to send
        return Outcome(message=message, problem=f"it could not be sent ({type(error).__name__})")
    return Outcome(message=message, result=result)


async def count_history_events(client: Client, message: Message) -> int:
    """How many events the history of a message's workflow has."""
    history = await client.get_workflow_handle(message.workflow_id).fetch_history()
    return len(history.events)
