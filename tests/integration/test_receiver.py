"""The receiver that tests, demos and benchmarks deliver to."""

from __future__ import annotations

import asyncio

import aiohttp
from slack_sdk.web.async_client import AsyncWebClient

from workers.embedded.receiver import Answer, ReceivedRequest, Receiver


async def post(url: str, body: str = "") -> int:
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as response:
        await response.read()
        return response.status


async def test_requests_are_recorded_in_order() -> None:
    async with Receiver() as receiver:
        for number in range(3):
            assert await post(receiver.hook_url(f"h{number}"), f'{{"n": {number}}}') == 200
        assert [(request.path, request.json) for request in receiver.requests] == [
            ("/hook/h0", {"n": 0}),
            ("/hook/h1", {"n": 1}),
            ("/hook/h2", {"n": 2}),
        ]


async def test_waiting_ends_with_the_last_arrival() -> None:
    async with Receiver() as receiver:
        waiting = asyncio.create_task(receiver.wait_for(2))
        await post(receiver.hook_url("a"))
        assert not waiting.done()
        await post(receiver.hook_url("b"))
        assert [request.path for request in await waiting] == ["/hook/a", "/hook/b"]


async def test_answers_are_given_once_and_in_order() -> None:
    async with Receiver() as receiver:
        receiver.answer_next(Answer(status=503), Answer(status=429))
        assert [await post(receiver.hook_url("a")) for _ in range(3)] == [503, 429, 200]


async def test_a_function_may_choose_the_answer() -> None:
    async def choose(request: ReceivedRequest) -> Answer | None:
        return Answer(status=418) if request.path.endswith("tea") else None

    async with Receiver(answering=choose) as receiver:
        assert await post(receiver.hook_url("tea")) == 418
        assert await post(receiver.hook_url("coffee")) == 200


async def test_it_speaks_slack_to_slacks_own_client() -> None:
    async with Receiver(slack_token="xoxb-1") as receiver, aiohttp.ClientSession() as session:
        client = AsyncWebClient("xoxb-1", base_url=receiver.slack_api_url, session=session)
        sent_as_json = await client.chat_postMessage(channel="C1", text="hello")
        sent_as_form = await client.api_call("chat.postMessage", data={"channel": "C1", "text": "hello"})
        assert sent_as_json["message"]["text"] == sent_as_form["message"]["text"] == "hello"
        assert [request.fields for request in receiver.requests] == [{"channel": "C1", "text": "hello"}] * 2


async def test_it_refuses_as_slack_does() -> None:
    async with Receiver(slack_token="xoxb-1") as receiver, aiohttp.ClientSession() as session:
        url = f"{receiver.slack_api_url}chat.postMessage"

        async def error(token: str, body: dict[str, str]) -> str:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with session.post(url, json=body, headers=headers) as response:
                return str((await response.json())["error"])

        assert await error("", {}) == "not_authed"
        assert await error("xoxb-2", {}) == "invalid_auth"
        assert await error("xoxb-1", {"text": "a"}) == "channel_not_found"
        assert await error("xoxb-1", {"channel": "C1"}) == "no_text"
