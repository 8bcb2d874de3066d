"""What an HTTP answer means for a delivery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.destinations.answers import LONGEST_RETRY_AFTER, raise_for_status, retry_after, unreachable
from activities.errors import RejectedError, UnavailableError


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_raises_nothing(status: int) -> None:
    raise_for_status("receiver", status, {})


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 599])
def test_what_may_pass_is_unavailable(status: int) -> None:
    with pytest.raises(UnavailableError, match=f"^receiver answered {status}$"):
        raise_for_status("receiver", status, {})


@pytest.mark.parametrize("status", [100, 301, 302, 304, 307, 308, 400, 401, 403, 404, 410, 413, 422])
def test_what_will_not_pass_is_rejected(status: int) -> None:
    with pytest.raises(RejectedError, match=f"^receiver answered {status}$"):
        raise_for_status("receiver", status, {})


def test_unavailable_carries_the_wait_that_was_asked_for() -> None:
    with pytest.raises(UnavailableError) as raised:
        raise_for_status("receiver", 503, {"Retry-After": "7"})
    assert raised.value.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("1", timedelta(seconds=1)),
        (" 30 ", timedelta(seconds=30)),
        ("0.5", timedelta(seconds=0.5)),
        ("3600", LONGEST_RETRY_AFTER),
        ("3601", LONGEST_RETRY_AFTER),
        ("999999999", LONGEST_RETRY_AFTER),
    ],
)
def test_seconds_are_read_and_capped(value: str, wait: timedelta) -> None:
    assert retry_after({"Retry-After": value}) == wait


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "0.0",
        "-5",
        "soon",
        "1e3",
        "inf",
        "nan",
        "٣",
        "1 2",
        "9" * 5000,
        "Mon, 99 Foo 2024 00:00:00 GMT",
        "\x00",
    ],
)
def test_junk_and_no_wait_are_none(value: str) -> None:
    assert retry_after({"Retry-After": value}) is None


def test_no_header_is_none() -> None:
    assert retry_after({}) is None


def test_a_date_is_the_time_until_then() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    wait = retry_after({"Retry-After": in_a_minute})
    assert wait is not None
    assert timedelta(seconds=30) < wait <= timedelta(minutes=1)


def test_a_date_without_a_zone_counts_as_utc() -> None:
    in_half_an_hour = (datetime.now(UTC) + timedelta(minutes=30)).strftime("%a, %d %b %Y %H:%M:%S -0000")
    wait = retry_after({"Retry-After": in_half_an_hour})
    assert wait is not None
    assert timedelta(minutes=29) < wait <= timedelta(minutes=30)


@pytest.mark.parametrize(
    ("date", "wait"),
    [("Wed, 21 Oct 2015 07:28:00 GMT", None), ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER)],
)
def test_a_past_date_is_none_and_a_far_one_is_capped(date: str, wait: timedelta | None) -> None:
    assert retry_after({"Retry-After": date}) == wait


@given(st.text())
def test_no_header_value_can_raise_or_exceed_the_bounds(value: str) -> None:
    wait = retry_after({"Retry-After": value})
    assert wait is None or timedelta(0) < wait <= LONGEST_RETRY_AFTER


def test_a_lost_connection_tells_the_class_of_its_cause_alone() -> None:
    error = unreachable("receiver", ConnectionResetError("http://user:password@host/"))
    assert str(error) == "receiver cannot be reached (ConnectionResetError)"


def test_a_timeout_says_so() -> None:
    assert str(unreachable("receiver", TimeoutError())) == "receiver did not answer in time"
