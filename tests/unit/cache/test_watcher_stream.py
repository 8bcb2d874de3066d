"""Reading a change stream in batches, and what its failures mean."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from typing import Any

import bson
import pytest
from bson.errors import InvalidBSON
from pymongo.errors import AutoReconnect, CursorNotFound, NotPrimaryError, OperationFailure, ServerSelectionTimeoutError

from cache.change_stream import MOST_EVENTS, Batch, batches, is_refusal, is_unsupported, let_go, named


class Scripted:
    """A stream that brings what it is given: an event is a number, None a while without any."""

    def __init__(self, *script: Any) -> None:
        self.alive = True
        self.resume_token: dict[str, Any] | None = {"at": 0}
        self.reads = 0
        self.closed = False
        self._script: deque[Any] = deque(script)
        self._more = asyncio.Event()

    def bring(self, *script: Any) -> None:
        """More of it."""
        self._script.extend(script)
        self._more.set()

    async def try_next(self) -> dict[str, Any] | None:
        """The next event, or None."""
        try:
            while not self._script:
                self._more.clear()
                await self._more.wait()
        except asyncio.CancelledError:
            self.closed = True
            raise
        self.reads += 1
        found = self._script.popleft()
        if isinstance(found, Exception):
            raise found
        if found is not None:
            self.resume_token = {"at": found}
        self.alive = found != "end"
        return None if found is None else {"number": found}


def _numbers(batch: Batch) -> list[Any]:
    return [event["number"] for event in batch.events]


def _at(batch: Batch) -> Any:
    return bson.decode(batch.token)["at"]


async def test_what_comes_together_is_dealt_with_together() -> None:
    stream = Scripted(1, 2, 3)
    async with aclosing(batches(stream)) as arriving:
        batch = await anext(arriving)
    assert _numbers(batch) == [1, 2, 3]
    assert _at(batch) == 3


async def test_what_comes_while_a_batch_is_dealt_with_is_in_the_next_one() -> None:
    """Nothing is lost, nothing comes twice, and a batch's token says nothing of the next one's events."""
    stream = Scripted(1)
    seen: list[Any] = []
    async with aclosing(batches(stream)) as arriving:
        async for batch in arriving:
            assert _at(batch) == batch.events[-1]["number"]
            seen += _numbers(batch)
            if len(seen) >= 7:
                break
            stream.bring(seen[-1] + 1, seen[-1] + 2)
            for _ in range(10):
                await asyncio.sleep(0)
    assert seen == [1, 2, 3, 4, 5, 6, 7]


async def test_a_batch_is_bounded() -> None:
    stream = Scripted(*range(1, MOST_EVENTS + 3))
    async with aclosing(batches(stream)) as arriving:
        first, second = await anext(arriving), await anext(arriving)
    assert len(first.events) == MOST_EVENTS
    assert _at(first) == MOST_EVENTS
    assert _numbers(second) == [MOST_EVENTS + 1, MOST_EVENTS + 2]


async def test_a_while_without_events_is_told_too() -> None:
    """The server's place in its history has moved on meanwhile."""
    stream = Scripted(None)
    async with aclosing(batches(stream)) as arriving:
        assert await anext(arriving) == Batch([], bson.encode({"at": 0}))


async def test_a_server_that_says_no_place_gives_no_token() -> None:
    stream = Scripted(None)
    stream.resume_token = None
    async with aclosing(batches(stream)) as arriving:
        assert await anext(arriving) == Batch([], b"")


async def test_it_ends_with_the_stream_and_not_before_its_last_event() -> None:
    stream = Scripted(1, "end")
    assert [_numbers(batch) async for batch in batches(stream)] == [[1, "end"]]
    assert stream.reads == 2


async def test_a_failure_reaches_the_reader() -> None:
    with pytest.raises(AutoReconnect):
        async for _ in batches(Scripted(AutoReconnect("gone"))):
            pass


async def test_leaving_ends_the_read_under_way() -> None:
    stream = Scripted(1)
    async with aclosing(batches(stream)) as arriving:
        await anext(arriving)
    assert stream.closed


async def test_what_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache.change_stream.FAREWELL_SECONDS", 0.01)
    answered = asyncio.Event()
    await let_go(answered.wait())
    assert not answered.is_set()


async def test_what_fails_in_ending_is_not_raised() -> None:
    async def failing() -> None:
        raise AutoReconnect("gone")

    await let_go(failing())


def _failure(code: int, *labels: str) -> OperationFailure:
    return OperationFailure("says what it read", code, {"errorLabels": list(labels)})


@pytest.mark.parametrize("code", [260, 280, 286, 136, 9, 10334, 13, 237])
def test_an_answer_that_will_be_the_same_again_is_a_refusal(code: int) -> None:
    """History lost, not a token, an event that is too large, not allowed, ..."""
    assert is_refusal(_failure(code))


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("x"),
        ServerSelectionTimeoutError("x"),
        NotPrimaryError("x"),
        CursorNotFound("x", 43, {}),
        _failure(91),
        _failure(11600),
        _failure(4, "ResumableChangeStreamError"),
        RuntimeError("x"),
    ],
)
def test_what_passes_is_no_refusal(error: Exception) -> None:
    assert not is_refusal(error)


def test_what_is_no_token_at_all_is_a_refusal() -> None:
    assert is_refusal(InvalidBSON("x"))


@pytest.mark.parametrize("code", [40573, 40324, 40415])
def test_a_server_without_change_streams_is_told_apart(code: int) -> None:
    assert is_unsupported(_failure(code))
    assert not is_unsupported(_failure(286))
    assert not is_unsupported(AutoReconnect("x"))


def test_an_error_is_named_without_its_words() -> None:
    assert named(_failure(286)) == "OperationFailure, code 286"
    assert named(AutoReconnect("says what it read")) == "AutoReconnect"
