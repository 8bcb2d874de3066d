"""Messages are made as the API server makes them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from workers.demo import sending
from workers.demo.sending import BATCH_BYTES, make_messages, run_name, send_all


def test_a_record_is_a_message_with_its_id_in_metadata_and_in_the_record() -> None:
    (message,) = make_messages([{"level": "INFO"}], "demo-0")
    assert message.message_id == "demo-0-0000001"
    assert message.workflow_id == "log_process-acme-webshop-by-level-demo-0-0000001"
    assert message.argument == {
        "metadata": {
            "organisationId": "acme",
            "projectId": "webshop",
            "pipelineId": "by-level",
            "messageId": "demo-0-0000001",
        },
        "log_data": {"level": "INFO", "messageId": "demo-0-0000001"},
    }


def test_a_records_own_message_id_gives_way() -> None:
    (message,) = make_messages([{"messageId": "theirs"}], "demo-0")
    assert message.argument["log_data"] == {"messageId": "demo-0-0000001"}


@pytest.mark.parametrize(("size", "lengths"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_batches_hold_at_most_so_many_records_in_order(size: int, lengths: list[int]) -> None:
    messages = make_messages([{"n": number} for number in range(5)], "demo-0", size)
    records: list[Any] = [record for message in messages for record in message.argument["log_batch"]]
    assert [len(message.records) for message in messages] == lengths
    assert [record["n"] for record in records] == list(range(5))
    assert len({record["messageId"] for record in records}) == 5
    assert len({message.message_id for message in messages}) == len(messages)


def test_a_batch_ends_early_rather_than_near_the_payload_limit() -> None:
    large = {"message": "x" * (BATCH_BYTES // 3)}
    assert [len(message.records) for message in make_messages([large] * 5, "demo-0", 500)] == [2, 2, 1]


def test_no_records_make_no_message() -> None:
    assert make_messages([], "demo-0") == make_messages([], "demo-0", 10) == []


def test_runs_have_names_of_their_own() -> None:
    assert run_name() != run_name()


class _Server:
    """Stands in for a client: message 2 never ends, message 3 is too large, all others succeed."""

    def __init__(self) -> None:
        self.running = 0
        self.most_running = 0

    async def execute_workflow(self, _: str, argument: dict[str, Any], **__: Any) -> dict[str, Any]:
        number = int(argument["metadata"]["messageId"].rpartition("-")[2])
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        await asyncio.sleep(0)
        if number == 2:
            await asyncio.Event().wait()
        self.running -= 1
        if number == 3:
            raise RPCError("too large", RPCStatusCode.INVALID_ARGUMENT, b"")
        return {"success": True}


async def test_each_message_gets_its_result_or_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the messages; one that never ends does not hold up the account for ever."""
    monkeypatch.setattr(sending, "PATIENCE_SECONDS", 0.2)
    messages = make_messages([{}] * 4, "demo-0")
    done: list[str] = []
    outcomes = await send_all(cast("Client", _Server()), messages, lambda message: done.append(message.message_id))
    assert [outcome.message for outcome in outcomes] == messages
    assert [outcome.result.get("success") for outcome in outcomes] == [True, None, None, True]
    assert "no result" in outcomes[1].problem
    assert "could not be sent" in outcomes[2].problem
    assert sorted(done) == [messages[number].message_id for number in (0, 2, 3)]


async def test_only_so_many_messages_are_under_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PATIENCE_SECONDS", 0.2)
    server = _Server()
    await send_all(cast("Client", server), make_messages([{}] * 200, "demo-0"), lambda _: None)
    assert server.most_running == sending.CONCURRENCY
