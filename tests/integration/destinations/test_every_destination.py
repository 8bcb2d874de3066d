"""What every destination keeps to, whatever it delivers to; a new one gets a `Kind` here."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from activities.destinations.base import Destination, DestinationContext, DestinationTarget
from activities.destinations.slack import SlackDestination
from activities.destinations.webhook import WebhookDestination
from activities.errors import FinalError, InvalidRecordError, RejectedError, UnavailableError
from workers.embedded.receiver import Answer, ReceivedRequest, Receiver

SECRET = "planted-secret"
CONTENTS = "planted-contents"
RECORD = {"level": "error", "note": CONTENTS}


@dataclass(frozen=True)
class Kind:
    """A destination under test: where it delivers to, what arrives, and how its receiver refuses for good."""

    made_by: type[Destination]
    target: Callable[[Receiver], DestinationTarget]
    arrived: Callable[[ReceivedRequest], Any]
    refusal: Answer


def slack_target(_: Receiver) -> DestinationTarget:
    return DestinationTarget(
        target_id="t-1",
        name="alerts",
        parameters={"action": "message", "channel": "C1"},
        credentials={"slackBotToken": SECRET},
    )


def webhook_target(receiver: Receiver) -> DestinationTarget:
    return DestinationTarget(
        target_id="t-1",
        name="alerts",
        parameters={"url": f"{receiver.hook_url('a')}?key={SECRET}"},
        credentials={"headers": {"Authorization": f"Bearer {SECRET}"}},
    )


KINDS = [
    Kind(
        made_by=SlackDestination,
        target=slack_target,
        arrived=lambda request: json.loads(request.fields["text"]),
        refusal=Answer(body={"ok": False, "error": "invalid_auth"}),
    ),
    Kind(
        made_by=WebhookDestination,
        target=webhook_target,
        arrived=lambda request: request.json,
        refusal=Answer(status=401, body={"error": "who are you?"}),
    ),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.made_by.integration_type)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each destination in turn."""
    kind: Kind = request.param
    return kind


@pytest.fixture
def destination(kind: Kind, context: DestinationContext) -> Destination:
    return kind.made_by(context)


@pytest.fixture
def target(kind: Kind, receiver: Receiver) -> DestinationTarget:
    return kind.target(receiver)


@pytest.fixture(autouse=True)
def nothing_planted_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Holds for every test here, at the most talkative level."""
    caplog.set_level(logging.DEBUG)
    yield
    logged = "\n".join(map(logging.Formatter().format, caplog.get_records("call")))
    assert SECRET not in logged
    assert CONTENTS not in logged


def everything_told_by(error: BaseException) -> str:
    """What a log or Temporal could show of an error: it and all it was raised from."""
    told = [str(error), repr(error)]
    if error.__cause__ or not error.__suppress_context__:
        told += [everything_told_by(cause) for cause in (error.__cause__, error.__context__) if cause]
    return "\n".join(told)


async def failure(destination: Destination, target: DestinationTarget, record: dict[str, Any] = RECORD) -> Exception:
    """The error of a delivery that must fail, looked through for what was planted."""
    with pytest.raises((FinalError, UnavailableError)) as raised:
        await destination.deliver(target, record, "key-1")
    told = everything_told_by(raised.value)
    assert SECRET not in told
    assert CONTENTS not in told
    assert "target t-1" in told
    return raised.value


async def test_a_record_arrives_whole(
    kind: Kind, destination: Destination, target: DestinationTarget, receiver: Receiver
) -> None:
    record = {"text": 'naïve \u2028 😀 \\ " \n', "nested": {"list": [1, 2.5, None, True]}, "big": 2**80, "": ""}
    await destination.deliver(target, record, "key-1")
    assert [kind.arrived(request) for request in receiver.requests] == [record]


async def test_a_record_of_a_megabyte_arrives(
    kind: Kind, destination: Destination, target: DestinationTarget, receiver: Receiver
) -> None:
    record = {"text": "x" * 1_000_000}
    await destination.deliver(target, record, "key-1")
    assert kind.arrived(receiver.requests[0]) == record


async def test_a_lone_surrogate_is_delivered(
    kind: Kind, destination: Destination, target: DestinationTarget, receiver: Receiver
) -> None:
    await destination.deliver(target, {"text": "a\ud800b"}, "key-1")
    assert kind.arrived(receiver.requests[0]) == {"text": "a\ud800b"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**5000], ids=["nan", "infinity", "5,000 digits"])
async def test_what_json_cannot_carry_is_final_and_not_sent(
    destination: Destination, target: DestinationTarget, receiver: Receiver, value: object
) -> None:
    error = await failure(destination, target, {"value": value, "note": CONTENTS})
    assert isinstance(error, InvalidRecordError)
    assert receiver.requests == []


async def test_a_record_nested_beyond_the_stack_is_final(destination: Destination, target: DestinationTarget) -> None:
    record: dict[str, Any] = {}
    for _ in range(100_000):
        record = {"deeper": record}
    assert isinstance(await failure(destination, target, record), InvalidRecordError)


async def test_a_server_in_trouble_is_unavailable(
    destination: Destination, target: DestinationTarget, receiver: Receiver
) -> None:
    receiver.answer_next(Answer(status=503, body="try later"))
    error = await failure(destination, target)
    assert isinstance(error, UnavailableError)
    assert error.retry_after is None
    assert "503" in str(error)


async def test_a_rate_limit_tells_when_to_try_again(
    destination: Destination, target: DestinationTarget, receiver: Receiver
) -> None:
    limit = Answer(status=429, headers={"Retry-After": "42"}, body={"ok": False, "error": "ratelimited"})
    receiver.answer_next(limit)
    error = await failure(destination, target)
    assert isinstance(error, UnavailableError)
    assert error.retry_after == timedelta(seconds=42)


async def test_a_refusal_is_final(
    kind: Kind, destination: Destination, target: DestinationTarget, receiver: Receiver
) -> None:
    receiver.answer_next(kind.refusal)
    assert isinstance(await failure(destination, target), RejectedError)


async def test_an_answer_is_not_quoted(
    kind: Kind, destination: Destination, target: DestinationTarget, receiver: Receiver
) -> None:
    """A receiver may send back what it was sent, credentials included."""
    echo = {"ok": False, "error": f"bad token {SECRET} for {CONTENTS}"}
    receiver.answer_next(Answer(status=400, body=echo, headers={"X-Echo": SECRET}), Answer(status=500, body=echo))
    assert isinstance(await failure(destination, target), RejectedError)
    assert isinstance(await failure(destination, target), UnavailableError)
    assert len(receiver.requests) == 2
    assert kind.arrived(receiver.requests[0]) == RECORD


async def test_no_retries_but_temporals(
    destination: Destination, target: DestinationTarget, receiver: Receiver
) -> None:
    receiver.answer_next(Answer(status=429, headers={"Retry-After": "0"}), Answer(status=500))
    await failure(destination, target)
    assert len(receiver.requests) == 1


async def test_nobody_listening_is_unavailable(kind: Kind, context: DestinationContext) -> None:
    async with Receiver() as gone:
        target, gone_context = kind.target(gone), replace(context, slack_api_url=gone.slack_api_url)
    assert isinstance(await failure(kind.made_by(gone_context), target), UnavailableError)


async def test_a_lost_answer_is_unavailable(
    destination: Destination, target: DestinationTarget, receiver: Receiver
) -> None:
    receiver.answer_next(Answer(lost=True))
    assert isinstance(await failure(destination, target), UnavailableError)


async def test_a_receiver_that_does_not_answer_is_unavailable(kind: Kind, context: DestinationContext) -> None:
    async def hang(_: ReceivedRequest) -> Answer | None:
        await asyncio.Event().wait()
        return None

    async with Receiver(answering=hang) as slow:
        hasty = replace(context, slack_api_url=slow.slack_api_url, timeout_seconds=0.2)
        error = await failure(kind.made_by(hasty), kind.target(slow))
    assert isinstance(error, UnavailableError)
    assert "in time" in str(error)


async def test_a_delivery_can_be_cancelled(kind: Kind, context: DestinationContext) -> None:
    async def hang(_: ReceivedRequest) -> Answer | None:
        await asyncio.Event().wait()
        return None

    async with Receiver(answering=hang) as slow:
        destination = kind.made_by(replace(context, slack_api_url=slow.slack_api_url))
        delivery = asyncio.create_task(destination.deliver(kind.target(slow), RECORD, "key-1"))
        await slow.wait_for(1)
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery


async def test_many_at_once_all_arrive(
    kind: Kind, destination: Destination, target: DestinationTarget, receiver: Receiver
) -> None:
    """More than the connections that one host may have."""
    await asyncio.gather(*(destination.deliver(target, {"number": n}, f"key-{n}") for n in range(200)))
    assert sorted(kind.arrived(request)["number"] for request in receiver.requests) == list(range(200))


async def test_no_cookie_is_kept(kind: Kind, context: DestinationContext, receiver: Receiver) -> None:
    """The next delivery may be another organisation's. By name: nobody keeps cookies of bare addresses."""
    target = kind.target(receiver)
    named = {name: value.replace("127.0.0.1", "localhost") for name, value in target.parameters.items()}
    target = replace(target, parameters=named)
    slack_api_url = context.slack_api_url.replace("127.0.0.1", "localhost")
    destination = kind.made_by(replace(context, slack_api_url=slack_api_url))
    receiver.answer_next(Answer(status=503, headers={"Set-Cookie": "session=1; Path=/"}))
    await failure(destination, target)
    await destination.deliver(target, RECORD, "key-1")
    assert "Cookie" not in receiver.requests[1].headers
