"""An HTTP server that records what it is sent: webhooks, and Slack's chat.postMessage. For tests, demos, benchmarks."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl

from aiohttp import web

LOOPBACK = "127.0.0.1"
LARGEST_BODY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A request as it arrived; `headers` are case-insensitive."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a form or of a JSON object, whichever it was sent as."""
        if self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            return dict(parse_qsl(self.text))
        return dict(self.json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to answer; a body that is neither text nor bytes is sent as JSON. A lost one closes the connection."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = b""
    lost: bool = False

    def response(self) -> web.Response:
        """The answer as the server sends it."""
        if isinstance(self.body, bytes):
            return web.Response(status=self.status, headers=self.headers, body=self.body)
        if isinstance(self.body, str):
            return web.Response(status=self.status, headers=self.headers, text=self.body)
        return web.json_response(self.body, status=self.status, headers=self.headers)


Answering = Callable[[ReceivedRequest], Awaitable[Answer | None]]


class Receiver:
    """A receiver on a free loopback port, for the length of an `async with` block.

    Attributes:
        requests: All that arrived, in the order of arrival.
        answering: Asked for the answer to each request; None from it means the usual answer.
        slack_token: The token that Slack's part insists on; None: any.
    """

    def __init__(self, *, slack_token: str | None = None, answering: Answering | None = None) -> None:
        self.requests: list[ReceivedRequest] = []
        self.answering = answering
        self.slack_token = slack_token
        self._next_answers: deque[Answer] = deque()
        self._arrival = asyncio.Condition()
        application = web.Application(client_max_size=LARGEST_BODY_BYTES)
        application.router.add_route("*", "/hook/{name}", self._hook)
        application.router.add_post("/api/chat.postMessage", self._slack)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    @property
    def slack_api_url(self) -> str:
        """What SLACK_API_URL is to be."""
        return f"{self.url}/api/"

    def hook_url(self, name: str) -> str:
        """The address of a webhook of that name; any name will do."""
        return f"{self.url}/hook/{name}"

    def answer_next(self, *answers: Answer) -> None:
        """Give these answers to the next requests, one each, whatever they are."""
        self._next_answers.extend(answers)

    async def wait_for(self, count: int) -> list[ReceivedRequest]:
        """All requests, once there are at least `count` of them."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def _hook(self, request: web.Request) -> web.Response:
        received = await self._receive(request)
        return _respond(request, await self._chosen_answer(received) or Answer())

    async def _slack(self, request: web.Request) -> web.Response:
        received = await self._receive(request)
        number = len(self.requests)
        answer = await self._chosen_answer(received) or Answer(body=self._slack_answer(received, number))
        return _respond(request, answer)

    async def _receive(self, request: web.Request) -> ReceivedRequest:
        received = ReceivedRequest(
            method=request.method, path=request.path, headers=request.headers, body=await request.read()
        )
        async with self._arrival:
            self.requests.append(received)
            self._arrival.notify_all()
        return received

    async def _chosen_answer(self, received: ReceivedRequest) -> Answer | None:
        if self._next_answers:
            return self._next_answers.popleft()
        return await self.answering(received) if self.answering else None

    def _slack_answer(self, received: ReceivedRequest, number: int) -> dict[str, Any]:
        """What chat.postMessage answers (docs.slack.dev); `ts` counts the messages."""
        token = received.headers.get("Authorization", "").removeprefix("Bearer ")
        fields = received.fields
        if not token:
            return {"ok": False, "error": "not_authed"}
        if self.slack_token is not None and token != self.slack_token:
            return {"ok": False, "error": "invalid_auth"}
        if not fields.get("channel"):
            return {"ok": False, "error": "channel_not_found"}
        if not fields.get("text"):
            return {"ok": False, "error": "no_text"}
        message = {"text": fields["text"], "type": "message"}
        return {"ok": True, "channel": fields["channel"], "ts": f"{number}.000000", "message": message}


def _respond(request: web.Request, answer: Answer) -> web.Response:
    if answer.lost and request.transport is not None:
        request.transport.close()
    return answer.response()
