"""Runs operations against Redis within a budget, and tells a Redis that failed from one that was not to blame."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import DataError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cache.breaker import Breaker, State, logger
from cache.budget import Budget
from cache.connections import ConfirmedPool, PoolExhaustedError

LATE_TOLERATED_SECONDS = 1.0
"""A loop that is late for longer, with no operation succeeding in between, excuses Redis no more."""

READS = "reads"
WRITES = "writes"


@dataclass(slots=True)
class Counters:
    """What happened so far, for inspection.

    Attributes:
        failures: Operations that failed in a way that opens the breaker, timeouts among them.
        late: Timeouts that were not counted against Redis, for the event loop was held up.
        exhausted: Operations that found no free connection in time.
        refused: Operations that Redis answered with an error.
    """

    failures: int = 0
    late: int = 0
    exhausted: int = 0
    refused: int = 0


class Guard:
    """Runs operations so that none raises and none outlasts its budget (`cache/budget.py`).

    A failure or a timeout opens the breaker. Three things do not: no free connection and a late event loop (we are
    busy, Redis may be well), and an error in answer such as OOM, READONLY or WRONGTYPE (Redis is well and refuses this
    one operation: where writes are refused, reads go on).

    Args:
        pool: Where the connections come from; closed by `close`.
        timeout: The budget of an operation, in seconds, connecting included.
        first_cooldown: Seconds from a failure to the first attempt to reconnect.
        longest_cooldown: The most it grows to.

    Attributes:
        execute: Runs a command, given as its words; unguarded, for `attempt` to call.
        breaker: Whether Redis is used at the moment.
        counters: What happened so far.
    """

    def __init__(self, pool: ConfirmedPool, *, timeout: float, first_cooldown: float, longest_cooldown: float) -> None:
        self.execute: Callable[..., Coroutine[Any, Any, Any]] = Redis(connection_pool=pool).execute_command
        self.counters = Counters()
        self.breaker = Breaker(
            self._reconnect, address=pool.address, first_cooldown=first_cooldown, longest_cooldown=longest_cooldown
        )
        self._pool = pool
        self._budget = Budget(timeout)
        self._late_since: float | None = None
        self._refusing: set[str] = set()

    async def attempt(self, kind: str, call: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        """The reply of `call(*arguments)`, or None if there is none to be had within the budget.

        Args:
            kind: `READS` or `WRITES`: Redis may refuse one and take the other.
            call: `execute`, or what calls it.
            *arguments: What it is given.
        """
        if self.breaker.state is not State.CLOSED:
            self.breaker.bypassed += 1
            return None
        operation, late = await self._budget.spend(call(*arguments))
        if operation.done() and not operation.cancelled() and operation.exception() is None:
            self._succeeded(kind)
            return operation.result()
        self._failed(kind, operation, late=late)
        return None

    async def close(self) -> None:
        """End what is under way and close all connections; every later attempt is over at once."""
        await self.breaker.close()
        self._budget.abandon()
        await self._budget.drain()
        with contextlib.suppress(RedisError, OSError):  # a connection that cannot be closed is closed enough
            await self._pool.aclose()

    def _succeeded(self, kind: str) -> None:
        self._late_since = None
        self.breaker.succeeded()
        if kind in self._refusing:
            self._refusing.discard(kind)
            logger.info("Redis at %s takes %s again", self._pool.address, kind)

    def _failed(self, kind: str, operation: asyncio.Future[Any], *, late: bool) -> None:
        if not operation.done():
            operation.cancel()
            self._timed_out(late=late)
        elif operation.cancelled():  # another operation found Redis gone
            self.breaker.bypassed += 1
        else:
            self._judge(kind, operation.exception(), late=late)

    def _judge(self, kind: str, error: BaseException | None, *, late: bool) -> None:
        if isinstance(error, PoolExhaustedError):
            self.counters.exhausted += 1
        elif isinstance(error, RedisTimeoutError | TimeoutError):
            self._timed_out(late=late)
        elif isinstance(error, ResponseError | DataError | UnicodeError):
            self._was_refused(kind, error)
        else:
            self._lost(_reason(error))

    def _timed_out(self, *, late: bool) -> None:
        now = time.monotonic()
        if late:
            self._late_since = self._late_since or now
            if now - self._late_since < LATE_TOLERATED_SECONDS:
                self.counters.late += 1
                return
        self._lost(f"no answer within {self._budget.seconds:g} s")

    def _was_refused(self, kind: str, error: Exception) -> None:
        self.counters.refused += 1
        about_this_key_alone = str(error).startswith("WRONGTYPE")
        if kind not in self._refusing and not about_this_key_alone:
            self._refusing.add(kind)
            logger.warning("Redis at %s refuses %s (%s)", self._pool.address, kind, type(error).__name__)

    def _lost(self, reason: str) -> None:
        self.counters.failures += 1
        # One that was under way when another found Redis gone must not cancel the attempt to reconnect.
        if self.breaker.state is State.CLOSED:
            self.breaker.open(reason)
            self._budget.abandon()

    async def _reconnect(self) -> None:
        """One attempt: a PING on a new connection, the old ones abandoned. Raises if it is not answered in time."""
        await self._pool.abandon_idle()
        ping, _ = await self._budget.spend(self.execute("PING"))
        if not ping.done():
            ping.cancel()
            raise TimeoutError
        with contextlib.suppress(ResponseError):  # it speaks Redis; see cache/connections.py
            ping.result()


def _reason(error: BaseException | None) -> str:
    """What failed, without the error's own words: those of a protocol error quote what was read, a cached value."""
    name = type(error).__name__
    number = getattr(error.__context__, "errno", None) if error is not None else None
    return f"{name}: {os.strerror(number)}" if isinstance(number, int) else name
