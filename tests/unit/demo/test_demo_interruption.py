"""A signal cancels what runs, and what runs cleans up."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from workers.demo.interruption import SIGNALS, InterruptedBySignalError, until_interrupted


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The handlers before a test are those after it."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


async def test_a_result_passes_through() -> None:
    async def work() -> int:
        return 3

    assert await until_interrupted(work()) == 3


async def test_an_error_passes_through() -> None:
    async def work() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await until_interrupted(work())


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_ends_it_after_it_has_cleaned_up(number: signal.Signals) -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    with pytest.raises(InterruptedBySignalError) as interrupted:
        await until_interrupted(work())
    assert interrupted.value.exit_code == 128 + number
    assert steps == ["cleaned up"]


async def test_the_first_of_several_signals_is_reported_and_each_cancels_the_step_under_way() -> None:
    cancelled = 0

    async def work() -> None:
        nonlocal cancelled
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                os.kill(os.getpid(), number)
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1
        raise asyncio.CancelledError

    with pytest.raises(InterruptedBySignalError) as interrupted:
        await until_interrupted(work())
    assert (interrupted.value.number, cancelled) == (signal.SIGTERM, 2)


async def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As SIGHUP is under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        async def work() -> int:
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.01)
            return 0

        assert await until_interrupted(work()) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_cancellation_from_elsewhere_is_no_signal() -> None:
    task = asyncio.create_task(until_interrupted(asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
