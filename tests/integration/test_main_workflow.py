"""MainWorkflow with everything real around it: what the API server starts, what arrives, what is stored."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHandle
from temporalio.common import RawValue
from temporalio.testing import WorkflowEnvironment

from activities import processing
from activities.destinations import registry
from activities.destinations.base import Destination, DestinationTarget
from cache.crypto import seal
from tests.harness import Platform, process, start, worker_parts
from tests.object_storage import make_bucket, start_s3
from workers.embedded.receiver import Answer, Receiver
from workers.embedded.servers import free_port, running
from workers.logs import configure_logging
from workers.settings import Settings

ERROR = {"level": "ERROR", "message": "payment declined", "attempt": 3, "password": "hunter2"}
"""Reaches the branches `errors` (tagged, scrubbed, to the target "alerts") and `rest` (ends at a transformation)."""

AUDIT = {"level": "INFO", "message": "role changed", "audit": True}
"""Reaches the branches `audit` (to the target "audit") and `rest`."""

PLAIN = {"level": "INFO", "message": "all is well"}
"""Reaches the branch `rest` alone: filtered."""


@pytest.fixture
def logged() -> Iterator[StringIO]:
    """All that the worker logs, at the lowest level."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    stream = StringIO()
    configure_logging("DEBUG", stream)
    yield stream
    assert stream.getvalue(), "nothing was logged, so nothing was checked"
    root.setLevel(level)
    root.handlers[:] = handlers


def stored_failures(folder: Path) -> list[dict[str, Any]]:
    """The failure records in a store's folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]


async def test_a_message_started_as_the_api_server_does_is_delivered_to_slack(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, receiver: Receiver, failures: Path
) -> None:
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_data=ERROR))
    assert result["success"] is True
    assert result["node_outputs"]["b1"][0]["alert"] == {"severity": "high"}
    assert "password" not in result["node_outputs"]["d1"][0]
    assert set(result["node_outputs"]) == {"a1", "b1", "b2", "c1", "d1"}
    (request,) = receiver.requests
    assert request.path == "/api/chat.postMessage"
    assert request.headers["Authorization"] == "Bearer xoxb-held-out"
    assert request.fields["channel"] == "#alerts"
    # The template names the password, which the pipeline removed before: what is not there stays as it stands.
    assert request.fields["text"] == "[ERROR] payment declined sev=high pw={{ $.password }} lit=$5"
    assert stored_failures(failures) == []


async def test_a_message_is_one_workflow_of_at_most_14_events(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform
) -> None:
    async with worker_parts(temporal.client, settings):
        handle = await start(temporal.client, stored.message(log_data=ERROR))
        await handle.result()
    history = await handle.fetch_history()
    assert len(history.events) <= 14
    assert not [
        event for event in history.events if event.HasField("start_child_workflow_execution_initiated_event_attributes")
    ]


async def test_no_secret_is_in_history_nor_in_failure_records_nor_in_logs(
    temporal: WorkflowEnvironment,
    settings: Settings,
    stored: Platform,
    receiver: Receiver,
    failures: Path,
    logged: StringIO,
) -> None:
    """Neither the token nor the word it was encrypted from, also when the delivery fails."""
    receiver.slack_token = "another one"  # so that Slack refuses ours, and the failure is stored
    async with worker_parts(temporal.client, settings):
        handle = await start(temporal.client, stored.message(log_data=ERROR))
        result = await handle.result()
    assert result["failures"] == 1
    (failure,) = stored_failures(failures)
    assert "invalid_auth" in failure["error"]["message"]
    encrypted = stored.data["collections"]["IntegrationConnectors"][0]["encryptedCredentials"]
    # The bytes, not their JSON: that shows payloads in base64.
    history = b"".join(event.SerializeToString() for event in (await handle.fetch_history()).events)
    assert b"payment declined" in history
    for planted in ("xoxb-held-out", encrypted, stored.data["env"]["SEC_DB"]):
        assert planted.encode() not in history
        assert planted not in json.dumps(failure)
        assert planted not in logged.getvalue()
    for contents in ("hunter2", "payment declined"):
        assert not [line for line in logged.getvalue().splitlines() if contents in line]


async def test_a_batch_takes_the_same_road_and_counts_every_record_once(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, receiver: Receiver, failures: Path
) -> None:
    batch = [ERROR, PLAIN, AUDIT, {**ERROR, "audit": 1}, "no object"]
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_batch=batch))
    assert result == {"success": True, "records": 5, "delivered": 3, "filtered": 1, "failed": 1}
    assert sorted(request.fields["channel"] for request in receiver.requests) == [
        "#alerts",
        "#alerts",
        "#audit",
        "#audit",
    ]
    (failure,) = stored_failures(failures)
    assert failure["originalInput"] == "no object"
    assert failure["context"]["recordIndex"] == 4


async def test_a_record_nested_too_deeply_does_not_take_its_batch_with_it(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, failures: Path
) -> None:
    deep = json.loads('{"a":' * 300 + "1" + "}" * 300)
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_batch=[AUDIT, deep, AUDIT]))
    assert result == {"success": True, "records": 3, "delivered": 2, "filtered": 0, "failed": 1}
    (failure,) = stored_failures(failures)
    assert json.loads(failure["originalInput"]) == deep


async def test_an_empty_batch_succeeds_with_nothing_to_count(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform
) -> None:
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_batch=[]))
    assert result == {"success": True, "records": 0, "delivered": 0, "filtered": 0, "failed": 0}


async def test_a_large_batch_is_delivered_in_chunks_that_fit(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, receiver: Receiver
) -> None:
    """1.5 MB of records that all go to a target: no payload may near Temporal's 2 MB."""
    batch = [{**AUDIT, "number": number, "padding": "x" * 30_000} for number in range(50)]
    async with worker_parts(temporal.client, settings):
        handle = await start(temporal.client, stored.message(log_batch=batch))
        result = await handle.result()
    assert result["delivered"] == len(batch)
    numbers = [json.loads(request.fields["text"])["number"] for request in receiver.requests]
    assert numbers == list(range(50))
    history = await handle.fetch_history()
    scheduled = [e.activity_task_scheduled_event_attributes for e in history.events]
    assert max(attributes.ByteSize() for attributes in scheduled) < 500_000


METADATA = {"organisationId": "o", "projectId": "p", "pipelineId": "l", "messageId": "m"}


@pytest.mark.parametrize(
    "argument",
    [
        pytest.param(None, id="null"),
        pytest.param([1, 2], id="a list"),
        pytest.param({"log_data": {"a": 1}}, id="no metadata"),
        pytest.param({"metadata": {**METADATA, "pipelineId": ""}, "log_data": {}}, id="an id missing"),
        pytest.param({"metadata": METADATA, "log_data": "text"}, id="a record that is no object"),
        pytest.param({"metadata": METADATA}, id="no record"),
        pytest.param({"metadata": METADATA, "log_data": {"a": 1}}, id="a pipeline that does not exist"),
        pytest.param({"metadata": {**METADATA, "projectId": "*"}, "log_data": {}}, id="an id that is a glob"),
        pytest.param({"metadata": {**METADATA, "projectId": "../../x"}, "log_data": {}}, id="an id that is a path"),
        pytest.param(RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"{no json")), id="no JSON"),
        pytest.param(
            RawValue(Payload(metadata={"encoding": b"binary/odd"}, data=b"\xff\x00")), id="an unknown encoding"
        ),
        pytest.param(
            RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b'{"a":' * 50_000 + b"1" + b"}" * 50_000)),
            id="nested without end",
        ),
        pytest.param(
            {"metadata": METADATA, "log_data": json.loads('{"a":' * 400 + "1" + "}" * 400)}, id="nested deeply"
        ),
    ],
)
async def test_bad_input_ends_in_a_clear_result_and_a_stored_failure(
    temporal: WorkflowEnvironment, settings: Settings, failures: Path, argument: Any
) -> None:
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, argument)
    assert result["success"] is False
    assert result["reason"]
    assert result["error"]["type"]
    assert result["error"]["message"]
    (failure,) = stored_failures(failures)
    assert failure["error"]["message"] == result["error"]["message"]
    (path,) = failures.rglob("*.json")
    assert len(path.relative_to(failures).parts) == 5


async def test_a_workflow_started_without_an_argument_is_refused(
    temporal: WorkflowEnvironment, settings: Settings
) -> None:
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client)
    assert result["success"] is False


@pytest.mark.parametrize(
    ("collection", "query", "change", "message"),
    [
        pytest.param("Pipelines", {}, {"active": False}, "not active", id="an inactive pipeline"),
        pytest.param("Pipelines", {}, {"startNodeId": None}, "no start node", id="no start node"),
        pytest.param("Pipelines", {}, {"startNodeId": "gone"}, "gone", id="a start node that is not there"),
        pytest.param("PipelineNodes", {"nodeId": "b2"}, {"nodeConfig.next": ["b1"]}, "cycle", id="a cycle"),
    ],
)
async def test_a_pipeline_that_cannot_be_run_ends_in_a_clear_result_and_a_stored_failure(
    temporal: WorkflowEnvironment,
    settings: Settings,
    stored: Platform,
    failures: Path,
    collection: str,
    query: dict[str, Any],
    change: dict[str, Any],
    message: str,
) -> None:
    await stored.update(collection, query, change)
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_data=ERROR))
    assert result["success"] is False
    assert message in result["error"]["message"]
    assert result["error"]["type"] == "InvalidConfigurationError"
    (failure,) = stored_failures(failures)
    assert failure["originalInput"]["message"] == ERROR["message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"nodeConfig.next": ["gone"]}, "gone", id="a dangling node id"),
        pytest.param({"nodeConfig.type": "teleport"}, "teleport", id="an unknown node type"),
        pytest.param(
            {"nodeConfig.transformation_fn": "JSON.nonsense"}, "JSON.nonsense", id="an unknown transformation"
        ),
    ],
)
async def test_a_node_that_fails_is_recorded_and_the_other_branches_go_on(
    temporal: WorkflowEnvironment,
    settings: Settings,
    stored: Platform,
    receiver: Receiver,
    failures: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    await stored.update("PipelineNodes", {"nodeId": "b1"}, change)
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_data={**ERROR, "audit": True}))
    assert result["success"] is True
    assert result["failures"] == 1
    assert [request.fields["channel"] for request in receiver.requests] == ["#audit"]
    (failure,) = stored_failures(failures)
    assert message in failure["error"]["message"]
    assert failure["originalInput"]["message"] == ERROR["message"]


@pytest.mark.parametrize(
    ("collection", "message"), [("IntegrationTargets", "target"), ("IntegrationConnectors", "connector")]
)
async def test_a_missing_target_or_connector_fails_its_own_delivery(
    temporal: WorkflowEnvironment,
    settings: Settings,
    stored: Platform,
    failures: Path,
    collection: str,
    message: str,
) -> None:
    await stored.delete(collection, {})
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_data=ERROR))
    assert result["success"] is True
    assert result["failures"] == 1
    (failure,) = stored_failures(failures)
    assert failure["error"]["type"] == "NotFoundError"
    assert message in failure["error"]["message"]
    assert failure["currentInput"]["alert"] == {"severity": "high"}


async def test_a_destination_that_is_away_is_tried_until_it_is_back(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, receiver: Receiver, failures: Path
) -> None:
    receiver.answer_next(
        Answer(status=500),
        Answer(status=429, headers={"Retry-After": "120"}, body={"ok": False, "error": "ratelimited"}),
        Answer(status=503),
    )
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_data=ERROR))
    assert "failures" not in result
    assert len(receiver.requests) == 4
    assert stored_failures(failures) == []


async def test_a_destination_that_stays_away_for_a_day_becomes_a_stored_failure(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, receiver: Receiver, failures: Path
) -> None:
    async def away(_: object) -> Answer:
        return Answer(status=503)

    receiver.answering = away
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_data=ERROR))
    assert result["failures"] == 1
    (failure,) = stored_failures(failures)
    assert failure["error"]["type"] == "UnavailableError"
    assert "503" in failure["error"]["message"]


async def test_a_failure_waits_for_a_failure_store_that_is_away(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, tmp_path: Path
) -> None:
    """Its workflow is not over before the failure is stored, however long that takes."""
    port = free_port()
    changes = {"minio_endpoint": f"127.0.0.1:{port}", "minio_access_key": "key", "minio_secret_key": "secret"}
    in_s3 = Settings.model_validate({**settings.model_dump(), "failure_store_url": "", **changes})
    async with worker_parts(temporal.client, in_s3) as dependencies:
        handle = await start(temporal.client, stored.message(log_batch=["no object"]))
        async with asyncio.timeout(60):
            while not await attempts_failed(handle):  # noqa: ASYNC110 - the server counts attempts and announces none
                await asyncio.sleep(0.05)
        async with running(start_s3(tmp_path / "s3", port=port)) as server:
            await make_bucket(server, "failures")
            result = await handle.result()
            stored_keys = [key async for key in dependencies.failure_store.keys("")]
    assert result["failed"] == 1
    assert len(stored_keys) == 1


async def attempts_failed(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether an activity of the workflow has failed and waits to be tried again."""
    pending = (await handle.describe()).raw_description.pending_activities
    return any(activity.attempt > 1 for activity in pending)


async def test_a_retry_sends_only_what_the_attempt_before_it_did_not(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, receiver: Receiver
) -> None:
    ok = Answer(body={"ok": True})
    receiver.answer_next(ok, ok, Answer(body={"ok": False, "error": "msg_too_long"}), Answer(status=503))
    batch = [{**AUDIT, "number": number} for number in range(6)]
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_batch=batch))
    assert result == {"success": True, "records": 6, "delivered": 5, "filtered": 0, "failed": 1}
    numbers = [json.loads(request.fields["text"])["number"] for request in receiver.requests]
    assert numbers == [0, 1, 2, 3, 3, 4, 5]


async def test_what_was_delivered_before_a_delivery_is_given_up_on_counts_as_delivered(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, receiver: Receiver, failures: Path
) -> None:
    ok, refused = Answer(body={"ok": True}), Answer(body={"ok": False, "error": "msg_too_long"})

    async def away(_: object) -> Answer:
        return Answer(status=503)

    receiver.answer_next(ok, refused, ok)
    receiver.answering = away
    batch = [{**AUDIT, "number": number} for number in range(5)]
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_batch=batch))
    assert result == {"success": True, "records": 5, "delivered": 2, "filtered": 0, "failed": 3}
    reasons = {failure["context"]["recordIndex"]: failure["error"]["type"] for failure in stored_failures(failures)}
    assert reasons == {1: "RejectedError", 3: "UnavailableError", 4: "UnavailableError"}


async def test_a_token_that_was_replaced_is_read_past_the_cache(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, receiver: Receiver, failures: Path
) -> None:
    async with worker_parts(temporal.client, settings):
        await process(temporal.client, stored.message(log_data=AUDIT))
        receiver.slack_token = "xoxb-replaced"
        sealed = seal(json.dumps({"slackBotToken": "xoxb-replaced"}), stored.data["env"]["SEC_DB"])
        await stored.update("IntegrationConnectors", {}, {"encryptedCredentials": sealed})
        result = await process(temporal.client, stored.message(log_data=AUDIT))
    assert "failures" not in result
    assert stored_failures(failures) == []
    assert [request.headers["Authorization"] for request in receiver.requests] == [
        "Bearer xoxb-held-out",
        "Bearer xoxb-held-out",
        "Bearer xoxb-replaced",
    ]


class OddDestination(Destination):
    """A destination of another package, which trips over one record once, while others are under way."""

    integration_type: ClassVar[str] = "odd"
    concurrency: ClassVar[int] = 4
    delivered: ClassVar[list[int]] = []
    tripped: ClassVar[bool] = False

    async def deliver(self, target: DestinationTarget, record: dict[str, Any], idempotency_key: str) -> None:  # noqa: ARG002 - the interface
        """Deliver, or trip."""
        if record["number"] == 2 and not self.tripped:
            type(self).tripped = True
            raise KeyError(record["message"])
        await asyncio.sleep(0)
        self.delivered.append(record["number"])


async def test_an_error_that_nobody_foresaw_undoes_nothing_of_its_batch(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, OddDestination))
    await stored.update("IntegrationConnectors", {}, {"integrationType": "odd"})
    batch = [{**AUDIT, "number": number} for number in range(8)]
    async with worker_parts(temporal.client, settings):
        handle = await start(temporal.client, stored.message(log_batch=batch))
        result = await handle.result()
    assert result["delivered"] == 8
    assert sorted(OddDestination.delivered) == list(range(8))
    assert b"role changed" in b"".join(e.SerializeToString() for e in (await handle.fetch_history()).events)


async def test_a_slow_pipeline_gets_further_call_by_call(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no time at all for a call, each takes one record; none is lost or done twice."""
    monkeypatch.setattr(processing, "SLICE_SECONDS", -1.0)
    batch = [{**PLAIN, "number": number} for number in range(5)] + [AUDIT]
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_batch=batch))
    assert result == {"success": True, "records": 6, "delivered": 1, "filtered": 5, "failed": 0}


async def test_node_outputs_beyond_the_limit_are_left_out_and_the_result_says_so(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform
) -> None:
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_data={**PLAIN, "padding": "x" * 70_000}))
    assert result == {"success": True, "node_outputs_omitted": True}


async def test_a_record_too_large_to_be_copied_for_every_target_is_a_stored_failure(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, failures: Path
) -> None:
    record = {**AUDIT, **ERROR, "padding": "x" * 900_000}
    async with worker_parts(temporal.client, settings):
        result = await process(temporal.client, stored.message(log_data=record))
    assert result["failures"] == 1
    (failure,) = stored_failures(failures)
    assert failure["error"]["type"] == "RecordTooLargeError"


async def test_a_records_own_key_order_is_kept_on_its_way(
    temporal: WorkflowEnvironment, settings: Settings, stored: Platform, receiver: Receiver
) -> None:
    async with worker_parts(temporal.client, settings):
        await process(temporal.client, stored.message(log_data={"zebra": 1, "audit": True, "ant": 2}))
    (request,) = receiver.requests
    assert list(json.loads(request.fields["text"])) == ["zebra", "audit", "ant", "messageId"]
