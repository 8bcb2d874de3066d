"""Webhooks: what is sent where, what is refused, and what an answer means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from activities.destinations.base import DestinationContext, DestinationTarget
from activities.destinations.webhook import DISCARDED_BYTES, WebhookDestination
from activities.errors import InvalidConfigurationError, RejectedError, UnavailableError
from workers.embedded.receiver import Answer, Receiver


@pytest.fixture
def webhook(context: DestinationContext) -> WebhookDestination:
    return WebhookDestination(context)


def target(url: Any = None, *, credentials: dict[str, Any] | None = None, **parameters: Any) -> DestinationTarget:
    given = {"url": url, **parameters} if url is not None else parameters
    return DestinationTarget(target_id="t-1", name="hook", parameters=given, credentials=credentials or {})


@dataclass
class RawServer:
    """A server that answers each request, whose body must be `{}`, with given bytes.

    Attributes:
        packets: The bytes, each sent by itself.
        close: Whether a connection ends after them.
        connections: Every connection that was made.
    """

    packets: tuple[bytes, ...]
    close: bool
    url: str = ""
    connections: list[asyncio.Task[None]] = field(default_factory=list)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a new connection."""
        self.connections.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"{}")
                for packet in self.packets:
                    await asyncio.sleep(0.01)  # nothing tells when the one before has left
                    writer.write(packet)
                if self.close:
                    return
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(*packets: bytes, close: bool = True) -> AsyncIterator[RawServer]:
    raw = RawServer(packets, close)
    async with await asyncio.start_server(raw.connected, "127.0.0.1", 0) as server:
        raw.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield raw
        for connection in raw.connections:
            connection.cancel()
        await asyncio.gather(*raw.connections, return_exceptions=True)


async def test_a_record_is_posted_as_json_with_its_idempotency_key(
    webhook: WebhookDestination, receiver: Receiver
) -> None:
    await webhook.deliver(target(receiver.hook_url("a")), {"note": "naïve"}, "key-1")
    request = receiver.requests[0]
    assert (request.method, request.path) == ("POST", "/hook/a")
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Idempotency-Key"] == "key-1"
    assert request.headers["Content-Length"] == str(len(request.body))
    assert request.body == '{"note": "naïve"}'.encode()


async def test_a_large_record_is_sent_in_pieces(webhook: WebhookDestination, receiver: Receiver) -> None:
    """In one piece it would hold up the event loop, of which the HTTP client warns."""
    record = {"text": "x" * 3_000_000}
    await webhook.deliver(target(receiver.hook_url("a")), record, "key-1")
    assert receiver.requests[0].json == record
    assert receiver.requests[0].headers["Content-Length"] == str(len(receiver.requests[0].body))


@pytest.mark.parametrize(("given", "sent"), [("PUT", "PUT"), ("patch", "PATCH"), ("", "POST"), (None, "POST")])
async def test_the_method_is_the_targets(
    webhook: WebhookDestination, receiver: Receiver, given: str | None, sent: str
) -> None:
    await webhook.deliver(target(receiver.hook_url("a"), method=given), {}, "key-1")
    assert receiver.requests[0].method == sent


async def test_a_template_is_sent_as_text(webhook: WebhookDestination, receiver: Receiver) -> None:
    await webhook.deliver(target(receiver.hook_url("a"), template="Hi {{ $.name }}"), {"name": "Zoë\ud800"}, "key-1")
    request = receiver.requests[0]
    assert request.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert request.text == "Hi Zoë?"


async def test_headers_override_by_name_whatever_their_case(webhook: WebhookDestination, receiver: Receiver) -> None:
    """The content type, then the target's, then the connector's, and the idempotency key above all."""
    await webhook.deliver(
        target(
            receiver.hook_url("a"),
            headers={"content-type": "application/x-log", "X-Team": "red", "x-number": 7},
            credentials={"headers": {"x-team": "blue", "X-Token": "s3cret", "idempotency-key": "forged"}},
        ),
        {},
        "key-1",
    )
    headers = receiver.requests[0].headers
    assert headers["Content-Type"] == "application/x-log"
    assert (headers["X-Team"], headers["X-Number"], headers["X-Token"]) == ("blue", "7", "s3cret")
    assert headers["Idempotency-Key"] == "key-1"
    assert [name.lower() for name in headers].count("idempotency-key") == 1


async def test_the_connectors_address_serves_where_the_target_has_none(
    webhook: WebhookDestination, receiver: Receiver
) -> None:
    credentials = {"url": receiver.hook_url("connector")}
    await webhook.deliver(target(credentials=credentials), {}, "key-1")
    await webhook.deliver(target(receiver.hook_url("target"), credentials=credentials), {}, "key-2")
    assert [request.path for request in receiver.requests] == ["/hook/connector", "/hook/target"]


async def test_user_and_password_in_the_address_are_sent_unless_a_header_says_otherwise(
    webhook: WebhookDestination, receiver: Receiver
) -> None:
    url = receiver.hook_url("a").replace("//", "//user:password@")
    await webhook.deliver(target(url), {}, "key-1")
    await webhook.deliver(target(url, headers={"authorization": "Bearer x"}), {}, "key-2")
    authorizations = [request.headers["Authorization"] for request in receiver.requests]
    assert authorizations == ["Basic dXNlcjpwYXNzd29yZA==", "Bearer x"]


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        7,
        "hook",
        "//planted/hook",
        "ftp://planted/hook",
        "file:///planted",
        "http://",
        "http:///planted",
        "http://:80/planted",
        "http://planted:99999/",
        "http://planted host/",
        "http://planted%00/",
        "http://[::1/planted",
        "http://planted..host/",
        "http://planted\ud800/",
        f"http://{'planted' * 10}/",
    ],
    ids=ascii,
)
async def test_an_unusable_address_is_final_and_not_quoted(webhook: WebhookDestination, url: object) -> None:
    with pytest.raises(InvalidConfigurationError, match=r"^target t-1.* url") as raised:
        await webhook.deliver(target(url), {}, "key-1")
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    "headers",
    [
        "X-Token: planted",
        ["planted"],
        {"X-Token": "planted\r\nX-Injected: 1"},
        {"X-Token": "planted\nmore"},
        {"X-Token": "planted\x00"},
        {"X-Token": "planted\ud800"},
        {"X-Token": ["planted"]},
        {"X-Token": None},
        {"X Token": "planted"},
        {"X-Token:": "planted"},
        {"X-\nToken": "planted"},
        {"": "planted"},
        {"X-Tök": "planted"},
        {"Content-Length": "5"},
        {"transfer-encoding": "chunked"},
        {"HOST": "planted.internal"},
        {"Connection": "close"},
        {"Expect": "100-continue"},
    ],
    ids=ascii,
)
@pytest.mark.parametrize("source", ["parameters", "credentials"])
async def test_unusable_headers_are_final_and_not_sent(
    webhook: WebhookDestination, receiver: Receiver, headers: Any, source: str
) -> None:
    url = receiver.hook_url("a")
    unusable = target(url, headers=headers) if source == "parameters" else target(url, credentials={"headers": headers})
    with pytest.raises(InvalidConfigurationError, match=r"^target t-1.* header") as raised:
        await webhook.deliver(unusable, {}, "key-1")
    assert "planted" not in str(raised.value)
    assert receiver.requests == []


@pytest.mark.parametrize(("name", "value"), [("method", "DELETE"), ("method", 7), ("template", {"a": 1})])
async def test_other_unusable_parameters_are_final(
    webhook: WebhookDestination, receiver: Receiver, name: str, value: object
) -> None:
    with pytest.raises(InvalidConfigurationError, match=f"^target t-1.* {name}"):
        await webhook.deliver(target(receiver.hook_url("a"), **{name: value}), {}, "key-1")
    assert receiver.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_rejected_and_not_followed(
    webhook: WebhookDestination, receiver: Receiver, status: int
) -> None:
    receiver.answer_next(Answer(status=status, headers={"Location": receiver.hook_url("elsewhere")}))
    with pytest.raises(RejectedError, match=f"^target t-1: 127.0.0.1 answered {status}$"):
        await webhook.deliver(target(receiver.hook_url("a")), {}, "key-1")
    assert [request.path for request in receiver.requests] == ["/hook/a"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422])
async def test_other_client_errors_are_rejected(webhook: WebhookDestination, receiver: Receiver, status: int) -> None:
    receiver.answer_next(Answer(status=status))
    with pytest.raises(RejectedError, match=f"^target t-1: 127.0.0.1 answered {status}$"):
        await webhook.deliver(target(receiver.hook_url("a")), {}, "key-1")


async def test_an_error_names_the_host_and_nothing_else_of_the_address(
    webhook: WebhookDestination, receiver: Receiver
) -> None:
    receiver.answer_next(Answer(status=500))
    url = receiver.hook_url("path-planted").replace("//", "//user-planted:password-planted@") + "?key=query-planted"
    with pytest.raises(UnavailableError) as raised:
        await webhook.deliver(target(url), {}, "key-1")
    assert str(raised.value) == "target t-1: 127.0.0.1 answered 500"


async def test_a_large_answer_is_not_read_to_its_end(webhook: WebhookDestination, receiver: Receiver) -> None:
    receiver.answer_next(Answer(body=b"x" * (DISCARDED_BYTES * 100)))
    await webhook.deliver(target(receiver.hook_url("a")), {}, "key-1")
    await webhook.deliver(target(receiver.hook_url("a")), {}, "key-2")
    assert len(receiver.requests) == 2


async def test_an_answer_that_breaks_off_after_its_status_is_a_delivery(webhook: WebhookDestination) -> None:
    """The receiver has accepted by then; sending it again would be a duplicate."""
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") as server:
        await webhook.deliver(target(server.url), {}, "key-1")


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX"]
)
async def test_an_answer_that_is_no_http_is_unavailable(webhook: WebhookDestination, answer: bytes) -> None:
    async with raw_server(answer) as server:
        with pytest.raises(UnavailableError, match=r"^target t-1: 127.0.0.1 cannot be reached"):
            await webhook.deliver(target(server.url), {}, "key-1")


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 5\r\n\r\nTaken", b"Transfer-Encoding: chunked\r\n\r\n5\r\nTaken\r\n0\r\n\r\n"]
)
async def test_deliveries_one_after_another_share_a_connection(webhook: WebhookDestination, rest: bytes) -> None:
    async with raw_server(b"HTTP/1.1 202 Accepted\r\n" + rest[:-3], rest[-3:], close=False) as server:
        for number in range(5):
            await webhook.deliver(target(server.url), {}, f"key-{number}")
    assert len(server.connections) == 1


async def test_an_answer_is_not_decompressed(webhook: WebhookDestination) -> None:
    """It would cost memory and could fail: here it is no gzip, and the connection is none the worse."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\nno gzip"
    async with raw_server(answer, close=False) as server:
        await webhook.deliver(target(server.url), {}, "key-1")
        await webhook.deliver(target(server.url), {}, "key-2")
    assert len(server.connections) == 1
