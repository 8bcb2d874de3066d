"""What an HTTP answer, or the lack of one, means for a delivery."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from activities.errors import RejectedError, UnauthorizedError, UnavailableError

UNAUTHORIZED_STATUSES = frozenset({401, 403})
RETRYABLE_STATUSES = frozenset({408, 425, 429})
LONGEST_RETRY_AFTER = timedelta(hours=1)
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def is_success(status: int) -> bool:
    """Whether the request was accepted."""
    return 200 <= status < 300  # noqa: PLR2004 - the 2xx of RFC 9110


def is_retryable(status: int) -> bool:
    """Whether the same request may succeed later: 408, 425, 429 and 5xx."""
    return status in RETRYABLE_STATUSES or status >= 500  # noqa: PLR2004 - the 5xx of RFC 9110


def raise_for_status(receiver: str, status: int, headers: Mapping[str, str]) -> None:
    """Return on success, else raise what the status means. `receiver` says who answered.

    Raises:
        UnavailableError: It may succeed later.
        UnauthorizedError: The credentials were refused.
        RejectedError: It will not succeed. A redirect counts among these: none is followed.
    """
    if is_retryable(status):
        raise UnavailableError(f"{receiver} answered {status}", retry_after=retry_after(headers))
    if status in UNAUTHORIZED_STATUSES:
        raise UnauthorizedError(f"{receiver} answered {status}")
    if not is_success(status):
        raise RejectedError(f"{receiver} answered {status}")


def unreachable(receiver: str, error: Exception) -> UnavailableError:
    """The error for a receiver that gave no answer. Of the cause only its class is told: its text may hold the URL."""
    if isinstance(error, TimeoutError):
        return UnavailableError(f"{receiver} did not answer in time")
    return UnavailableError(f"{receiver} cannot be reached ({type(error).__name__})")


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """How long the `Retry-After` header (RFC 9110, 10.2.3: seconds or a date) asks to wait, one hour at most.

    Returns:
        None where there is none, it cannot be read, or the time has come already.
    """
    value = headers.get("Retry-After", "").strip()
    wait = timedelta(seconds=float(value)) if _SECONDS.fullmatch(value) else _until(value)
    return min(wait, LONGEST_RETRY_AFTER) if wait > timedelta(0) else None


def _until(date: str) -> timedelta:
    try:
        moment = parsedate_to_datetime(date)
        return moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):  # what the parser raises, depending on the junk
        return timedelta(0)
