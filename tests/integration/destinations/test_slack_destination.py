"""Slack: what is posted, and what its answers mean."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from activities.destinations.base import DestinationContext, DestinationTarget
from activities.destinations.slack import SlackDestination
from activities.errors import InvalidConfigurationError, InvalidRecordError, RejectedError, UnavailableError
from workers.embedded.receiver import Answer, Receiver

TOKEN = "xoxb-planted"


@pytest.fixture
def slack(context: DestinationContext) -> SlackDestination:
    return SlackDestination(context)


def target(token: Any = TOKEN, **parameters: Any) -> DestinationTarget:
    """A target that posts records as JSON to C1, but for what is given."""
    return DestinationTarget(
        target_id="t-1",
        name="alerts",
        parameters={"action": "message", "channel": "C1", **parameters},
        credentials={"slackBotToken": token},
    )


async def test_message_posts_the_record_as_json_text(slack: SlackDestination, receiver: Receiver) -> None:
    await slack.deliver(target(), {"level": "error", "note": "naïve"}, "key-1")
    request = receiver.requests[0]
    assert request.path == "/api/chat.postMessage"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.fields == {"channel": "C1", "text": '{"level": "error", "note": "naïve"}'}


async def test_template_message_posts_the_template_filled_in(slack: SlackDestination, receiver: Receiver) -> None:
    template = r"{{ $.level }} for {{ $.user.name }}: \$5, {{ $.missing }}"
    await slack.deliver(
        target(action="template-message", template=template), {"level": "error", "user": {"name": "Zoë"}}, "key-1"
    )
    assert receiver.requests[0].fields["text"] == "error for Zoë: $5, {{ $.missing }}"


async def test_spaces_around_the_token_are_no_part_of_it(slack: SlackDestination, receiver: Receiver) -> None:
    await slack.deliver(target(token=f" {TOKEN}\n"), {}, "key-1")
    assert receiver.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


async def test_each_delivery_uses_its_own_token(slack: SlackDestination, receiver: Receiver) -> None:
    await slack.deliver(target(token="xoxb-one"), {}, "key-1")
    await slack.deliver(target(token="xoxb-two"), {}, "key-2")
    assert [request.headers["Authorization"] for request in receiver.requests] == ["Bearer xoxb-one", "Bearer xoxb-two"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"action": None},
        {"action": "shout"},
        {"action": ["message"]},
        {"channel": None},
        {"channel": ""},
        {"channel": 7},
        {"action": "template-message"},
        {"action": "template-message", "template": {"text": 1}},
        {"token": None},
        {"token": "  "},
        {"token": 7},
        {"token": f"{TOKEN}\r\nX-Injected: 1"},
        {"token": f"{TOKEN}é"},
    ],
    ids=str,
)
async def test_an_unusable_target_is_final_and_not_sent(
    slack: SlackDestination, receiver: Receiver, parameters: dict[str, Any]
) -> None:
    with pytest.raises(InvalidConfigurationError, match="target t-1") as raised:
        await slack.deliver(target(**parameters), {}, "key-1")
    assert "planted" not in str(raised.value)
    assert receiver.requests == []


async def test_a_record_that_a_template_cannot_take_is_final(slack: SlackDestination, receiver: Receiver) -> None:
    template = "{{ $.text }}" * 6
    with pytest.raises(InvalidRecordError, match=r"^target t-1: .*characters$"):
        await slack.deliver(target(action="template-message", template=template), {"text": "x" * 1_000_000}, "key-1")
    assert receiver.requests == []


@pytest.mark.parametrize(
    "code",
    [
        "account_inactive",
        "channel_not_found",
        "invalid_auth",
        "is_archived",
        "msg_too_long",
        "no_text",
        "not_authed",
        "not_in_channel",
        "token_revoked",
        "an_error_of_next_year",
    ],
)
async def test_an_error_of_slack_is_final_and_named(slack: SlackDestination, receiver: Receiver, code: str) -> None:
    receiver.answer_next(Answer(body={"ok": False, "error": code}))
    with pytest.raises(RejectedError, match=f"^target t-1: Slack refused the message: {code}$"):
        await slack.deliver(target(), {}, "key-1")


@pytest.mark.parametrize(
    "code", ["fatal_error", "internal_error", "rate_limited", "ratelimited", "request_timeout", "service_unavailable"]
)
async def test_an_error_that_passes_is_unavailable(slack: SlackDestination, receiver: Receiver, code: str) -> None:
    receiver.answer_next(Answer(headers={"Retry-After": "3"}, body={"ok": False, "error": code}))
    with pytest.raises(UnavailableError, match=f"{code}$") as raised:
        await slack.deliver(target(), {}, "key-1")
    assert raised.value.retry_after == timedelta(seconds=3)


async def test_a_token_that_slack_does_not_know_is_rejected(context: DestinationContext, receiver: Receiver) -> None:
    receiver.slack_token = "xoxb-another"
    with pytest.raises(RejectedError, match="invalid_auth"):
        await SlackDestination(context).deliver(target(), {}, "key-1")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body="<html>Sign in</html>", headers={"Content-Type": "text/html"}),
        Answer(body="sign in"),
        Answer(body="{", headers={"Content-Type": "application/json"}),
        Answer(body=b"\xff\xfe", headers={"Content-Type": "application/json; charset=utf-8"}),
        Answer(body=b"\x1f\x8b", headers={"Content-Type": "application/gzip"}),
        Answer(body=b""),
        Answer(body=["ok"]),
        Answer(body=[]),
        Answer(body="null", headers={"Content-Type": "application/json"}),
        Answer(body={"ok": "true"}),
        Answer(status=302, headers={"Location": "/hook/elsewhere"}),
    ],
    ids=["html", "text", "half", "no utf-8", "gzip", "empty", "array", "empty array", "null", "no boolean", "redirect"],
)
async def test_an_answer_that_is_not_slacks_counts_as_no_answer(
    slack: SlackDestination, receiver: Receiver, answer: Answer
) -> None:
    """A proxy or a portal answered with a success that means nothing: it is neither delivered nor refused."""
    receiver.answer_next(answer)
    with pytest.raises(UnavailableError, match=r"^target t-1: Slack"):
        await slack.deliver(target(), {}, "key-1")


@pytest.mark.parametrize(("status", "error"), [(404, RejectedError), (403, RejectedError), (502, UnavailableError)])
async def test_an_answer_without_an_error_code_means_its_status(
    slack: SlackDestination, receiver: Receiver, status: int, error: type[Exception]
) -> None:
    receiver.answer_next(Answer(status=status, body="<html>", headers={"Content-Type": "text/html"}))
    with pytest.raises(error, match=str(status)):
        await slack.deliver(target(), {}, "key-1")


async def test_a_proxy_in_the_environment_is_not_used(
    context: DestinationContext, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    await SlackDestination(context).deliver(target(), {}, "key-1")
    assert len(receiver.requests) == 1
