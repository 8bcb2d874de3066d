"""The breaker: one background task, one attempt at a time, ever more rarely, and a log line per change of state."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cache.breaker import Breaker, State


class Peer:
    """A Redis that answers an attempt to reconnect when it is told how."""

    def __init__(self) -> None:
        self.attempts: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def reconnect(self) -> None:
        """One attempt, under way until the test answers it."""
        answer = asyncio.get_running_loop().create_future()
        self.attempts.put_nowait(answer)
        await answer


async def _closed(breaker: Breaker) -> None:
    assert breaker._recovery is not None
    await breaker._recovery
    assert breaker.state is State.CLOSED


def _breaker(peer: Peer, *, first: float = 0.001, longest: float = 0.004) -> Breaker:
    return Breaker(peer.reconnect, address="redis.test:6379", first_cooldown=first, longest_cooldown=longest)


async def test_a_failure_opens_it_and_an_answered_attempt_closes_it() -> None:
    peer = Peer()
    breaker = _breaker(peer)
    breaker.open("refused")
    assert breaker.state == "open"
    attempt = await peer.attempts.get()
    assert breaker.state == "half-open"
    attempt.set_result(None)
    await _closed(breaker)
    assert (breaker.outages, breaker.attempts) == (1, 1)


async def test_however_many_failures_there_is_one_attempt_at_a_time() -> None:
    peer = Peer()
    breaker = _breaker(peer)
    for _ in range(100):
        breaker.open("refused")
    first = await peer.attempts.get()
    breaker.open("refused")
    first.set_exception(ConnectionError())
    second = await peer.attempts.get()
    assert peer.attempts.empty()
    assert breaker.outages == 1
    second.set_result(None)
    await _closed(breaker)


async def test_the_cooldown_doubles_to_its_ceiling_and_only_a_real_success_makes_it_short_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that answers PING and nothing else is tried ever more rarely."""
    waits: list[float] = []
    monkeypatch.setattr("cache.breaker.random.uniform", lambda _low, high: waits.append(high) or 0.0)
    peer = Peer()
    cooldowns: list[float] = []
    breaker = _breaker(peer, first=1.0, longest=5.0)
    original = breaker._next_cooldown

    def recorded() -> float:
        cooldowns.append(breaker._cooldown)
        return original()

    monkeypatch.setattr(breaker, "_next_cooldown", recorded)
    breaker.open("refused")
    for _ in range(3):
        (await peer.attempts.get()).set_exception(ConnectionError())
    (await peer.attempts.get()).set_result(None)
    await _closed(breaker)
    assert cooldowns == [1.0, 2.0, 4.0, 5.0]

    breaker.open("again, with no operation succeeding in between")
    (await peer.attempts.get()).set_result(None)
    await _closed(breaker)
    breaker.succeeded()
    breaker.open("again")
    (await peer.attempts.get()).set_result(None)
    await _closed(breaker)
    assert cooldowns[4:] == [5.0, 1.0]
    assert set(waits) == {1.0}, "the jitter shortens a cooldown and never lengthens it"


async def test_each_change_of_state_is_logged_once_with_the_length_and_cost_of_the_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    peer = Peer()
    breaker = _breaker(peer)
    breaker.open("refused")
    breaker.open("refused")
    for _ in range(3):
        (await peer.attempts.get()).set_exception(ConnectionError("planted"))
    breaker.bypassed += 41
    (await peer.attempts.get()).set_result(None)
    await _closed(breaker)
    lost, ping, recovered = (record.getMessage() for record in caplog.records)
    assert lost == "connection to Redis at redis.test:6379 lost (refused); going without it"
    assert ping == "Redis at redis.test:6379 does not answer a PING (ConnectionError)"
    assert recovered.startswith("connection to Redis at redis.test:6379 recovered after 0.")
    assert recovered.endswith("; 41 calls went without it")
    assert {record.name for record in caplog.records} == {"cache.redis_cache"}


async def test_closed_for_good_it_ends_its_task_and_stays_open() -> None:
    peer = Peer()
    breaker = _breaker(peer)
    breaker.open("refused")
    await peer.attempts.get()
    await breaker.close()
    assert breaker.state is State.OPEN
    assert len(asyncio.all_tasks()) == 1
