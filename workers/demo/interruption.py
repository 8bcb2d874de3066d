"""Ending on a signal: whatever is running is cancelled, so that its `finally` blocks clean up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedBySignalError(Exception):
    """A signal ended what was running; by now it has cleaned up.

    Attributes:
        number: The first signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that the signal ended."""
        return 128 + self.number


async def until_interrupted(running: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine; every SIGINT, SIGTERM and SIGHUP cancels it.

    A second signal while it cleans up cancels the cleaning step under way: each has to be safe against that.

    Raises:
        InterruptedBySignalError: A signal ended it.
    """
    task = asyncio.ensure_future(running)
    received: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    with _handled_by(interrupt):
        try:
            return await task
        except (asyncio.CancelledError, BaseExceptionGroup):  # a group where tasks failed of the cancellation
            if not received:
                raise
            raise InterruptedBySignalError(received[0]) from None


def ignore_signals() -> None:
    """Ignore them from here on: the process has cleaned up and is about to end with the exit code it has chosen."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _handled_by(interrupt: Callable[[signal.Signals], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    # What is ignored (SIGHUP under nohup) stays ignored.
    numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
