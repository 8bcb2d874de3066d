"""A batch whose worker goes away in the middle of it is taken over by another one."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from temporalio.client import Client

from tests.harness import start
from tests.worker_command import Surroundings
from workers.embedded.receiver import Answer, ReceivedRequest, Receiver

RECORDS = 8
BATCH = [{"level": "INFO", "message": "role changed", "audit": True, "number": number} for number in range(RECORDS)]
"""All go to Slack, one after the other."""


class Holding:
    """Answers requests, holding one of them until it is released."""

    def __init__(self, held: int) -> None:
        self.arrived, self.released = asyncio.Event(), asyncio.Event()
        self._held = held
        self._seen = 0

    async def __call__(self, _: ReceivedRequest) -> Answer:
        """The answer to a request."""
        self._seen += 1
        if self._seen == self._held:
            self.arrived.set()
            await self.released.wait()
        return Answer(body={"ok": True})


def numbers(receiver: Receiver) -> Counter[int]:
    """How often each record arrived."""
    return Counter(json.loads(request.fields["text"])["number"] for request in receiver.requests)


async def test_a_worker_told_to_stop_finishes_what_is_under_way_and_hands_over_the_rest(
    surroundings: Surroundings, client: Client
) -> None:
    holding = surroundings.receiver.answering = Holding(3)
    async with surroundings.worker() as worker:
        handle = await start(client, surroundings.stored.message(log_batch=BATCH))
        await holding.arrived.wait()
        worker.process.terminate()
        await worker.until("/readyz", 503)
        holding.released.set()
        assert await worker.process.wait() == 0
    assert len(surroundings.receiver.requests) < RECORDS
    async with surroundings.worker():
        result = await handle.result()
    assert result == {"success": True, "records": RECORDS, "delivered": RECORDS, "filtered": 0, "failed": 0}
    assert numbers(surroundings.receiver) == Counter(range(RECORDS)), "each record arrived once"


async def test_a_worker_that_is_killed_loses_nothing(surroundings: Surroundings, client: Client) -> None:
    """Another one goes on once its heartbeats are missed; only what was not told by then arrives again."""
    holding = surroundings.receiver.answering = Holding(3)
    async with surroundings.worker() as worker:
        handle = await start(client, surroundings.stored.message(log_batch=BATCH))
        await holding.arrived.wait()
        worker.process.kill()
        await worker.process.wait()
    holding.released.set()
    async with surroundings.worker():
        result = await handle.result()
    assert result == {"success": True, "records": RECORDS, "delivered": RECORDS, "filtered": 0, "failed": 0}
    arrived = numbers(surroundings.receiver)
    assert set(arrived) == set(range(RECORDS))
    assert all(count == 1 for number, count in arrived.items() if number >= 3), "what came after the kill came once"
