"""The budget: who waits is off on time, and nothing that was started is left running for long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cache.budget import Budget

BUDGET = 0.05


@pytest.fixture
def budget() -> Budget:
    return Budget(BUDGET)


async def _left_alone(budget: Budget, call: Any) -> asyncio.Task[Any]:
    """The operation of a caller who was cancelled while it was under way."""
    caller = asyncio.create_task(budget.spend(call))
    await asyncio.sleep(0)
    (operation,) = budget.running
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    return operation


async def test_an_operation_that_gives_and_one_that_raises_are_both_over(budget: Budget) -> None:
    async def gives() -> str:
        return "value"

    async def raises() -> None:
        raise ValueError

    given, late = await budget.spend(gives())
    assert (given.result(), late) == ("value", False)
    raised, _ = await budget.spend(raises())
    assert isinstance(raised.exception(), ValueError)
    assert not budget.running


@pytest.mark.parametrize("share", [0.25, 0.75])
async def test_an_operation_may_take_either_half_of_the_budget(budget: Budget, share: float) -> None:
    operation, _ = await budget.spend(asyncio.sleep(BUDGET * share, "value"))
    assert operation.result() == "value"


async def test_an_operation_that_takes_longer_is_handed_back_unfinished(budget: Budget) -> None:
    operation, late = await budget.spend(asyncio.Event().wait())
    assert not operation.done()
    assert not late
    budget.abandon()
    await budget.drain()
    assert operation.cancelled()


async def test_an_operation_that_is_left_alone_ends_by_itself(budget: Budget) -> None:
    answer = asyncio.get_running_loop().create_future()
    operation = await _left_alone(budget, asyncio.wait_for(answer, None))
    answer.set_result("value")
    assert await operation == "value"
    await asyncio.sleep(BUDGET * 2)  # the timer that would have ended it does no harm
    assert operation.result() == "value"


async def test_an_operation_that_is_left_alone_and_never_ends_is_ended(budget: Budget) -> None:
    """Its connection would be lost to everybody else."""
    operation = await _left_alone(budget, asyncio.Event().wait())
    await asyncio.wait((operation,))
    assert operation.cancelled()
    assert not budget.running


async def test_a_failure_that_nobody_waits_for_is_no_news_to_asyncio(budget: Budget) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    gate = asyncio.Event()

    async def fails() -> None:
        await gate.wait()
        raise OSError

    operation = await _left_alone(budget, fails())
    gate.set()
    await asyncio.wait((operation,))
    del operation
    assert not budget.running
    assert not complaints


async def test_who_waits_for_the_end_of_a_stubborn_operation_waits_no_longer_than_the_budget(budget: Budget) -> None:
    let_go = asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    operation, _ = await budget.spend(stubborn())
    budget.abandon()
    await budget.drain()
    assert not operation.done()
    let_go.set()
    await operation
