"""Slack: posts a record, or a text made from it, to a channel."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from activities.destinations.answers import is_retryable, is_success, retry_after, unreachable
from activities.destinations.base import Destination, DestinationContext, DestinationTarget
from activities.destinations.texts import record_as_json, record_in_template
from activities.errors import InvalidConfigurationError, RejectedError, UnauthorizedError, UnavailableError

PASSING_ERRORS = frozenset(
    {
        "fatal_error",
        "internal_error",
        "rate_limited",
        "ratelimited",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
    }
)
"""Errors of chat.postMessage (docs.slack.dev) that pass by themselves; all others are final."""
UNAUTHORIZED_ERRORS = frozenset({"account_inactive", "invalid_auth", "not_authed", "token_expired", "token_revoked"})
"""Errors that say that the token was refused; it may have been replaced since it was cached."""
_ERROR_CODE = re.compile(r"[a-z_]{1,64}")

# The SDK writes whole requests to a logger of level DEBUG or none. This one has a level of its own, whatever is
# configured around it.
_sdk_logger = logging.getLogger(f"{__name__}.sdk")
_sdk_logger.setLevel(logging.WARNING)


class SlackDestination(Destination):
    """Posts to the channel that the target names, with the bot token of its connector.

    Slack knows no idempotency keys: a delivery whose answer was lost is posted again.
    Parameters: `action` (`message`: the record as JSON text; `template-message`: `template` filled in) and `channel`.
    Credentials: `slackBotToken`.
    """

    integration_type: ClassVar[str] = "slack"
    concurrency: ClassVar[int] = 1

    def __init__(self, context: DestinationContext) -> None:
        super().__init__(context)
        self._client = AsyncWebClient(
            base_url=context.slack_api_url,
            session=context.session,
            logger=_sdk_logger,
            retry_handlers=[],  # Temporal retries
        )
        self._client.proxy = None  # the SDK would take HTTPS_PROXY, even for hosts that NO_PROXY exempts

    async def deliver(
        self,
        target: DestinationTarget,
        record: dict[str, Any],
        idempotency_key: str,  # noqa: ARG002 - Slack has no place for it
    ) -> None:
        """Post the record; see `Destination.deliver`."""
        message = {"channel": _setting(target, "channel"), "text": _text(target, record)}
        status, headers, answer = await self._post(target, _token(target), message)
        _raise_for_answer(f"target {target.target_id}: Slack", status, headers, answer)

    async def _post(
        self, target: DestinationTarget, token: str, message: dict[str, str]
    ) -> tuple[int, Mapping[str, str], object]:
        """Status, headers and decoded body of Slack's answer; the body is None where it is no JSON."""
        try:
            async with asyncio.timeout(self._context.timeout_seconds):  # the SDK has none for a session that is given
                response = await self._client.api_call(
                    "chat.postMessage", json=message, headers={"Authorization": f"Bearer {token}"}
                )
        except SlackApiError as error:
            if isinstance(error.response, aiohttp.ClientResponse):
                return error.response.status, error.response.headers, None
            response = error.response
        except (aiohttp.ClientError, OSError) as error:  # timeouts are a kind of OSError
            raise unreachable(f"target {target.target_id}: Slack", error) from None
        except (AttributeError, ValueError):  # the SDK trips over an answer that is no JSON object
            raise UnavailableError(f"target {target.target_id}: Slack's answer cannot be read") from None
        return response.status_code, response.headers, response.data


def _setting(target: DestinationTarget, name: str) -> str:
    value = target.parameters.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidConfigurationError(f"target {target.target_id} has no {name}")
    return value


def _token(target: DestinationTarget) -> str:
    token = target.credentials.get("slackBotToken")
    if not isinstance(token, str) or not token.strip() or not (token.isascii() and token.strip().isprintable()):
        raise InvalidConfigurationError(f"the connector of target {target.target_id} has no usable slackBotToken")
    return token.strip()


def _text(target: DestinationTarget, record: dict[str, Any]) -> str:
    match target.parameters.get("action"):
        case "message":
            return record_as_json(target.target_id, record)
        case "template-message":
            return record_in_template(target.target_id, _setting(target, "template"), record)
    raise InvalidConfigurationError(f"target {target.target_id} has no action that Slack knows")


def _raise_for_answer(receiver: str, status: int, headers: Mapping[str, str], answer: object) -> None:
    """Return if Slack took the message, else raise what its error code, or the status where there is none, means."""
    fields = answer if isinstance(answer, dict) else {}
    if is_success(status) and fields.get("ok") is True:
        return
    code = _error_code(fields)
    if is_retryable(status) or code in PASSING_ERRORS:
        raise UnavailableError(f"{receiver} answered {status} {code}".rstrip(), retry_after=retry_after(headers))
    if not code and is_success(status):  # a captive portal or a proxy speaks, not Slack
        raise UnavailableError(f"{receiver}'s answer cannot be read")
    refusal = UnauthorizedError if code in UNAUTHORIZED_ERRORS else RejectedError
    raise refusal(f"{receiver} refused the message: {code or status}")


def _error_code(fields: Mapping[str, Any]) -> str:
    """Slack's error code; empty where what stands there is none and could be anything."""
    code = fields.get("error")
    return code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else ""
