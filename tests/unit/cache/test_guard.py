"""The guard: budgets that hold whatever an operation does, and verdicts that blame Redis only for what it did."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from cache.breaker import State
from cache.connections import PoolExhaustedError, open_pool
from cache.guard import READS, WRITES, Guard

BUDGET = 0.05


@pytest_asyncio.fixture
async def guard() -> AsyncIterator[Guard]:
    """A guard of a Redis that is never asked: the operations are the tests' own."""
    pool = open_pool("redis://user:planted@127.0.0.1:1/0", timeout=BUDGET, client_name="test")
    guard = Guard(pool, timeout=BUDGET, first_cooldown=60.0, longest_cooldown=60.0)
    yield guard
    await guard.close()


async def _gives(value: Any) -> Any:
    return value


async def _raises(error: BaseException) -> Any:
    raise error


async def test_an_operation_that_swallows_its_cancellation_keeps_nobody_waiting(guard: Guard) -> None:
    let_go = asyncio.Event()

    async def stubborn() -> str:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    assert await guard.attempt(READS, stubborn) is None
    assert guard.breaker.state is State.OPEN
    let_go.set()


async def test_a_caller_who_is_cancelled_leaves_the_operation_to_end_by_itself(guard: Guard) -> None:
    """Its connection stays usable: nobody has to connect anew because a caller left."""
    started, answer = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def slow() -> Any:
        started.set()
        return await answer

    caller = asyncio.create_task(guard.attempt(READS, slow))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not answer.cancelled()
    answer.set_result(b"value")
    assert guard.breaker.state is State.CLOSED


async def test_the_first_failure_frees_everyone_who_waits(guard: Guard) -> None:
    gate = asyncio.Event()

    async def fails() -> None:
        await gate.wait()
        raise RedisConnectionError

    waiting = [asyncio.create_task(guard.attempt(READS, asyncio.Event().wait)) for _ in range(50)]
    failing = asyncio.create_task(guard.attempt(READS, fails))
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(failing, *waiting) == [None] * 51
    assert (guard.counters.failures, guard.breaker.bypassed) == (1, 50)


async def test_an_operation_that_fails_late_does_not_break_off_the_attempt_to_reconnect(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one attempt there is: nothing would ever try again."""
    pinged, answer, gate = asyncio.Event(), asyncio.get_running_loop().create_future(), asyncio.Event()

    async def ping(_command: str) -> Any:
        pinged.set()
        return await answer

    async def stubborn() -> None:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            await gate.wait()
            raise RedisConnectionError from None

    monkeypatch.setattr(guard, "execute", ping)
    monkeypatch.setattr(guard.breaker, "_cooldown", 0.0)
    straggler = asyncio.create_task(guard.attempt(READS, stubborn))
    await asyncio.sleep(0)
    await guard.attempt(READS, _raises, RedisConnectionError("gone"))
    await pinged.wait()
    gate.set()
    assert await straggler is None
    answer.set_result(b"PONG")
    assert guard.breaker._recovery is not None
    await guard.breaker._recovery
    assert guard.breaker.state is State.CLOSED


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("gone"),
        RedisTimeoutError("slow"),
        InvalidResponse("garbage"),
        OSError("reset"),
        TypeError("a dead peer surfaces so, too"),
        AttributeError("a dead peer surfaces so, too"),
    ],
)
async def test_a_failure_opens_the_breaker_and_the_next_call_asks_nobody(guard: Guard, error: Exception) -> None:
    assert await guard.attempt(READS, _raises, error) is None
    assert guard.breaker.state is State.OPEN
    assert await guard.attempt(READS, pytest.fail, "it was asked") is None
    assert guard.breaker.bypassed == 1


@pytest.mark.parametrize(
    "error", [OutOfMemoryError("OOM"), ReadOnlyError("READONLY"), NoPermissionError("NOPERM"), ResponseError("MISCONF")]
)
async def test_refused_writes_do_not_take_reads_down_and_are_logged_once_each_way(
    guard: Guard, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        assert await guard.attempt(WRITES, _raises, error) is None
        assert await guard.attempt(READS, _gives, b"value") == b"value"
    assert await guard.attempt(WRITES, _gives, True) is True
    assert guard.breaker.state is State.CLOSED
    assert [record.getMessage() for record in caplog.records] == [
        f"Redis at 127.0.0.1:1 refuses writes ({type(error).__name__})",
        "Redis at 127.0.0.1:1 takes writes again",
    ]


async def test_a_key_of_the_wrong_type_is_a_miss_and_no_news(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="cache")
    error = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    assert await guard.attempt(READS, _raises, error) is None
    assert guard.breaker.state is State.CLOSED
    assert not caplog.records


async def test_no_free_connection_is_our_own_fault(guard: Guard) -> None:
    assert await guard.attempt(READS, _raises, PoolExhaustedError("all in use")) is None
    assert guard.breaker.state is State.CLOSED
    assert guard.counters.exhausted == 1


def _block(seconds: float) -> None:
    time.sleep(seconds)  # what the loop being held up means


@pytest.mark.parametrize("held_up", [BUDGET * 0.9, BUDGET * 3])
async def test_a_timeout_is_not_counted_when_the_event_loop_was_held_up(guard: Guard, held_up: float) -> None:
    asyncio.get_running_loop().call_soon(_block, held_up)
    assert await guard.attempt(READS, asyncio.Event().wait) is None
    assert guard.breaker.state is State.CLOSED
    assert guard.counters.late == 1


async def test_an_answer_that_came_while_the_loop_was_held_up_is_an_answer(guard: Guard) -> None:
    async def answered() -> bytes:
        answer = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(BUDGET, answer.set_result, b"value")
        asyncio.get_running_loop().call_soon(_block, BUDGET * 2)
        return await answer

    assert await guard.attempt(READS, answered) == b"value"


async def test_a_loop_that_is_always_late_does_not_excuse_redis_for_ever(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.guard.LATE_TOLERATED_SECONDS", BUDGET)
    for _ in range(2):
        asyncio.get_running_loop().call_soon(_block, BUDGET * 1.5)
        await guard.attempt(READS, asyncio.Event().wait)
    assert guard.breaker.state is State.OPEN


async def test_the_log_quotes_neither_what_was_read_nor_the_password(
    guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    """redis-py's own words for a broken answer hold the bytes that were read: somebody's cached value."""
    caplog.set_level(logging.DEBUG)
    await guard.attempt(READS, _raises, InvalidResponse("Protocol Error: b'planted'"))
    assert "InvalidResponse" in caplog.text
    assert "planted" not in caplog.text


async def test_closed_it_answers_at_once_and_leaves_nothing_running(guard: Guard) -> None:
    caller = asyncio.create_task(guard.attempt(READS, asyncio.Event().wait))
    await asyncio.sleep(0)
    await guard.close()
    assert await caller is None
    assert await guard.attempt(READS, pytest.fail, "it was asked") is None
    assert len(asyncio.all_tasks()) == 1
