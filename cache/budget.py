"""Runs operations within a budget of time: whatever an operation does, whoever waits for it is off on time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

LATE_SHARE = 0.1
"""A timer that fires later than this share of the budget says that the event loop was held up."""


class Budget:
    """Lets callers wait for operations, never longer than the budget.

    Each operation runs in a task of its own, and the caller waits for its end, never in it: one that swallows its
    cancellation keeps nobody. A caller who is cancelled leaves the operation to end by itself, so that its connection
    stays usable; it may take the budget once more for that.

    Args:
        seconds: The budget.

    Attributes:
        seconds: The budget.
        running: The operations under way, each with what wakes its caller.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.running: dict[asyncio.Task[Any], asyncio.Future[None]] = {}

    async def spend(self, call: Coroutine[Any, Any, Any]) -> tuple[asyncio.Task[Any], bool]:
        """Run `call` until it is over or the budget is used up.

        In two halves: a loop that is on time at the end of both has left Redis at least half the budget.

        Returns:
            The operation, done or not, and whether the event loop was late meanwhile.
        """
        loop = asyncio.get_running_loop()
        operation = loop.create_task(call)
        over = self.running[operation] = loop.create_future()
        operation.add_done_callback(self._ended)
        # One timer and one future: asyncio.wait makes more of both, and nearly every operation ends within this half.
        half = loop.call_later(self.seconds / 2, _wake, over)
        try:
            await over
            late = loop.time() - half.when() > self.seconds * LATE_SHARE
            if not operation.done():
                late = await self._second_half(operation) or late
        except asyncio.CancelledError:
            loop.call_later(self.seconds, operation.cancel)
            raise
        finally:
            half.cancel()
        return operation, late

    def abandon(self) -> None:
        """Cancel all that is under way, which wakes those who wait for it."""
        for operation in self.running:
            operation.cancel()

    async def drain(self) -> None:
        """Wait for the end of all that is under way, for no longer than the budget."""
        if self.running:
            await asyncio.wait(self.running, timeout=self.seconds)

    async def _second_half(self, operation: asyncio.Task[Any]) -> bool:
        loop = asyncio.get_running_loop()
        due = loop.time() + self.seconds / 2
        await asyncio.wait((operation,), timeout=self.seconds / 2)
        return loop.time() - due > self.seconds * LATE_SHARE

    def _ended(self, operation: asyncio.Task[Any]) -> None:
        _wake(self.running.pop(operation))
        if not operation.cancelled():
            operation.exception()  # looked at, also where the caller has gone: asyncio complains otherwise


def _wake(caller: asyncio.Future[None]) -> None:
    if not caller.done():
        caller.set_result(None)
