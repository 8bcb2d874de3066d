"""The breaker in front of Redis: closed until a failure, then open while one background task tries to reconnect.

    closed ──failure──> open ──cooldown──> half-open ──PING answered──> closed
                          ^                    │
                          └────PING failed─────┘  (the cooldown doubles, up to its ceiling)

Nobody waits for it: while it is not closed every caller goes without Redis at once. A reconnect that is answered
closes it; the cooldown starts small again only once an operation has succeeded too, so that a server which answers
PING and nothing else is tried ever more rarely.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum

# One logger for all that is said about the connection, whichever file says it.
logger = logging.getLogger("cache.redis_cache")

FIRST_COOLDOWN_SECONDS = 0.5
LONGEST_COOLDOWN_SECONDS = 30.0


class State(StrEnum):
    """Whether Redis is used (closed), left alone (open) or being tried (half-open)."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Keeps callers away from a Redis that failed, and finds out by itself when it is back.

    Args:
        reconnect: One attempt to reach Redis; returns if it answered, raises if it did not, and is bounded in time.
        address: Where Redis is, without credentials, for the log.
        first_cooldown: Seconds between the first failure and the first attempt to reconnect.
        longest_cooldown: The most it grows to, doubling with each attempt that fails.

    Attributes:
        state: Whether Redis may be used.
        bypassed: How many calls went without Redis, ever.
        outages: How many times it opened.
        attempts: How many times it tried to reconnect.
    """

    def __init__(
        self,
        reconnect: Callable[[], Awaitable[None]],
        *,
        address: str,
        first_cooldown: float = FIRST_COOLDOWN_SECONDS,
        longest_cooldown: float = LONGEST_COOLDOWN_SECONDS,
    ) -> None:
        self.state = State.CLOSED
        self.bypassed = 0
        self.outages = 0
        self.attempts = 0
        self._reconnect = reconnect
        self._address = address
        self._first_cooldown = first_cooldown
        self._longest_cooldown = longest_cooldown
        self._cooldown = first_cooldown
        self._opened_at = 0.0
        self._bypassed_before = 0
        self._recovery: asyncio.Task[None] | None = None

    def succeeded(self) -> None:
        """An operation succeeded: the next outage starts with a short cooldown again."""
        self._cooldown = self._first_cooldown

    def open(self, reason: str) -> None:
        """Stop using Redis and start the one background task that tries it; does nothing if it is open already.

        Args:
            reason: What failed, for the log; no values, no credentials.
        """
        if self.state is not State.CLOSED:
            return
        self.state = State.OPEN
        self.outages += 1
        self._opened_at = time.monotonic()
        self._bypassed_before = self.bypassed
        logger.warning("connection to Redis at %s lost (%s); going without it", self._address, reason)
        self._recovery = asyncio.create_task(self._recover())

    async def close(self) -> None:
        """End the background task, if there is one; it stays open from now on."""
        self.state = State.OPEN
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
            self._recovery = None

    async def _recover(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(self._next_cooldown())
            self.state = State.HALF_OPEN
            self.attempts += 1
            try:
                await self._reconnect()
            except Exception as error:  # noqa: BLE001 a dead peer surfaces as any error; each means: not yet
                self.state = State.OPEN
                failures += 1
                # Once at a level that is seen; an outage of a day is one line, not thousands.
                level = logging.WARNING if failures == 1 else logging.DEBUG
                logger.log(level, "Redis at %s does not answer a PING (%s)", self._address, type(error).__name__)
            else:
                self._recovered()
                return

    def _next_cooldown(self) -> float:
        """Seconds to wait; jittered, so that a fleet does not come back all at once."""
        cooldown = self._cooldown
        self._cooldown = min(cooldown * 2, self._longest_cooldown)
        return cooldown * random.uniform(0.5, 1.0)  # noqa: S311 jitter is not cryptography

    def _recovered(self) -> None:
        self.state = State.CLOSED
        logger.info(
            "connection to Redis at %s recovered after %.1f s; %d calls went without it",
            self._address,
            time.monotonic() - self._opened_at,
            self.bypassed - self._bypassed_before,
        )
