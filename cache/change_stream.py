"""The change stream of MongoDB: opened where it was left, read in batches, and what its failures mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import bson
from bson.errors import BSONError, InvalidBSON
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import CursorNotFound, ExecutionTimeout, OperationFailure

from cache.changes import STAGES, Event
from cache.source import TRANSIENT_CODES

Stream = AsyncChangeStream[dict[str, Any]]

WAIT_MILLISECONDS = 1_000
"""How long the server waits for an event before it says that there is none."""

MOST_EVENTS = 200
GATHER_SECONDS = 0.01
"""How long an event waits for those that came with it: one delete for all nodes of a pipeline, not one each."""

FAREWELL_SECONDS = 1.0
_leaving: set[asyncio.Future[Any]] = set()

UNSUPPORTED_CODES = frozenset({40573, 59, 115, 238, 40324, 40415})
"""No change streams here: not a replica set; of other servers, command or stage not known; MongoDB before 6.0."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that are dealt with together; none if nothing has changed for a while.

    Attributes:
        events: In the order of the changes.
        token: Where to go on once they have been dealt with; empty if the server does not say.
    """

    events: list[Event]
    token: bytes


@asynccontextmanager
async def opened(database: AsyncDatabase[dict[str, Any]], token: bytes) -> AsyncIterator[Stream]:
    """Watch a database from right after `token`, or from now on where it is empty.

    Raises:
        PyMongoError: It cannot be watched, or not from there.
        BSONError: The token is none.
    """
    stream = await database.watch(
        STAGES,
        full_document="updateLookup",
        full_document_before_change="whenAvailable",
        # Unlike `resume_after` it goes on where a dropped database ended the stream before.
        start_after=_place(token) if token else None,
        max_await_time_ms=WAIT_MILLISECONDS,
        batch_size=MOST_EVENTS,
    )
    try:
        yield stream
    finally:
        await let_go(stream.close())


async def let_go(ending: Awaitable[Any]) -> None:
    """Wait for something to end, and after a while leave it to end by itself: a frozen server answers no farewell."""
    task = asyncio.ensure_future(ending)
    _leaving.add(task)
    task.add_done_callback(_left)
    await asyncio.wait((task,), timeout=FAREWELL_SECONDS)


def _left(task: asyncio.Future[Any]) -> None:
    _leaving.discard(task)
    if not task.cancelled():
        task.exception()  # looked at: asyncio complains otherwise


def _place(token: bytes) -> dict[str, Any]:
    place = bson.decode(token)
    if not place:
        raise InvalidBSON("it names no place")  # and would be taken for none given
    return place


def token_of(stream: Stream) -> bytes:
    """Where the stream is."""
    token = stream.resume_token
    return bson.encode(token) if token else b""


async def batches(stream: Stream) -> AsyncGenerator[Batch, None]:
    """What the stream brings, together with what came while the batch before was dealt with; ends with the stream.

    Raises:
        PyMongoError: It cannot be read any more.
    """
    reading = asyncio.create_task(stream.try_next())
    try:
        while True:
            events: list[Event] = []
            await asyncio.wait((reading,))
            while reading.done() and len(events) < MOST_EVENTS:
                event, token = reading.result(), token_of(stream)
                if event is not None:
                    events.append(event)
                if not stream.alive:
                    yield Batch(events, token)
                    return
                reading = asyncio.create_task(stream.try_next())
                if event is not None:
                    await asyncio.wait((reading,), timeout=GATHER_SECONDS)
            yield Batch(events, token)
    finally:
        reading.cancel()
        await let_go(reading)


def is_unsupported(error: Exception) -> bool:
    """Whether this server has no change streams at all."""
    return isinstance(error, OperationFailure) and error.code in UNSUPPORTED_CODES


def is_refusal(error: Exception) -> bool:
    """Whether the server answered, and would answer the same again: from this token there is no going on."""
    if isinstance(error, BSONError):
        return True
    if not isinstance(error, OperationFailure) or isinstance(error, CursorNotFound | ExecutionTimeout):
        return False
    return error.code not in TRANSIENT_CODES and not error.has_error_label("ResumableChangeStreamError")


def named(error: Exception) -> str:
    """Which error it is, for the log; without its words, which may quote a document."""
    code = getattr(error, "code", None)
    return type(error).__name__ if code is None else f"{type(error).__name__}, code {code}"
