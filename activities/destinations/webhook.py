"""Webhooks: sends a record, or a text made from it, to an HTTP address."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from activities.destinations.answers import raise_for_status, unreachable
from activities.destinations.base import Destination, DestinationTarget
from activities.destinations.texts import record_as_json, record_in_template
from activities.errors import InvalidConfigurationError

METHODS = frozenset({"POST", "PUT", "PATCH"})
CONNECTION_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that frame the request on a connection that others share; nobody sets them but the HTTP client."""
DISCARDED_BYTES = 64 * 1024
DISCARD_TIMEOUT_SECONDS = 1.0
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token, RFC 9110, 5.6.2."""
_HOST = re.compile(r"[0-9A-Za-z._:-]+")
"""A name, in its IDNA form, or an address of IPv4 or IPv6."""


class WebhookDestination(Destination):
    """Sends one request a record, with its idempotency key in the header `Idempotency-Key`. Redirects are not followed.

    Parameters: `url`, `method` (POST, PUT or PATCH; POST by default), `headers`, and `template` for a text in place of
    the record as JSON.
    Credentials: `url`, which serves where the target has none, and `headers`, which override the target's. Both
    override user and password in the address.
    """

    integration_type: ClassVar[str] = "webhook"
    concurrency: ClassVar[int] = 16

    async def deliver(self, target: DestinationTarget, record: dict[str, Any], idempotency_key: str) -> None:
        """Send the record; see `Destination.deliver`."""
        content_type, body = _body(target, record)
        headers = _headers(target, content_type)
        headers["Idempotency-Key"] = idempotency_key
        await self._send(target, _method(target), _url(target, headers), headers, body)

    async def _send(
        self, target: DestinationTarget, method: str, url: URL, headers: CIMultiDict[str], body: bytes
    ) -> None:
        receiver = _receiver(target, url)
        try:
            async with self._context.session.request(
                method,
                url,
                headers=headers,
                data=io.BytesIO(body),  # sent in pieces: a large body does not hold up the loop
                timeout=aiohttp.ClientTimeout(total=self._context.timeout_seconds),
                allow_redirects=False,
                auto_decompress=False,
            ) as response:
                raise_for_status(receiver, response.status, response.headers)
                await _discard(response)
        except ValueError:  # the resolver's, of a host that is no name; its text would quote it
            raise _unusable(target, "url") from None
        except (aiohttp.ClientError, OSError) as error:  # timeouts are a kind of OSError
            raise unreachable(receiver, error) from None


async def _discard(response: aiohttp.ClientResponse) -> None:
    """Read what is left, so that the connection can be used again; a long or slow rest is not worth it.

    The status has decided by now: no error in the rest makes a delivery fail.
    """
    remaining = DISCARDED_BYTES
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(DISCARD_TIMEOUT_SECONDS):
            while remaining > 0 and (chunk := await response.content.read(remaining)):
                remaining -= len(chunk)


def _receiver(target: DestinationTarget, url: URL) -> str:
    """Who is spoken of in messages; not the host of an address out of the credentials, which may be a secret itself."""
    return (
        f"target {target.target_id}: {url.raw_host}" if target.parameters.get("url") else f"target {target.target_id}"
    )


def _body(target: DestinationTarget, record: dict[str, Any]) -> tuple[str, bytes]:
    """Content type and body."""
    template = target.parameters.get("template")
    if template is None:
        # A lone surrogate has no UTF-8; Python's backslash escape for it is JSON's too.
        return "application/json", record_as_json(target.target_id, record).encode("utf-8", "backslashreplace")
    if not isinstance(template, str):
        raise _unusable(target, "template")
    text = record_in_template(target.target_id, template, record)
    return "text/plain; charset=utf-8", text.encode("utf-8", "replace")


def _method(target: DestinationTarget) -> str:
    method = str(target.parameters.get("method") or "POST").upper()
    if method not in METHODS:
        raise _unusable(target, "method")
    return method


def _url(target: DestinationTarget, headers: Mapping[str, str]) -> URL:
    given = target.parameters.get("url") or target.credentials.get("url")
    if not isinstance(given, str):
        raise InvalidConfigurationError(f"target {target.target_id} has no url")
    try:
        url = URL(given)
    except ValueError:
        raise _unusable(target, "url") from None
    if url.scheme not in {"http", "https"} or not _HOST.fullmatch(url.raw_host or ""):
        raise _unusable(target, "url")
    return url.with_user(None) if "Authorization" in headers else url


def _headers(target: DestinationTarget, content_type: str) -> CIMultiDict[str]:
    headers = CIMultiDict({"Content-Type": content_type})
    for source in (target.parameters, target.credentials):
        given = source.get("headers") or {}
        if not isinstance(given, Mapping):
            raise _unusable(target, "headers")
        for name, value in given.items():
            headers[_header_name(target, name)] = _header_value(target, value)
    return headers


def _header_name(target: DestinationTarget, name: str) -> str:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in CONNECTION_HEADERS:
        raise _unusable(target, "header")
    return name


def _header_value(target: DestinationTarget, value: object) -> str:
    if not isinstance(value, str | int) or not str(value).isprintable():  # line breaks and lone surrogates are not
        raise _unusable(target, "header")
    return str(value)


def _unusable(target: DestinationTarget, what: str) -> InvalidConfigurationError:
    return InvalidConfigurationError(f"target {target.target_id} or its connector has a {what} that cannot be used")
