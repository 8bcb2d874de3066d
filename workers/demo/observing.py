"""What can be seen of a run from outside the worker: deliveries at the receiver, stored failures, cache counters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson

from workers.demo.accounting import PIPELINE, Arrival, StoredFailure
from workers.demo.sample import ALERTS, ARCHIVE, END_NODES
from workers.embedded.receiver import ReceivedRequest

SCRAPE_TIMEOUT_SECONDS = 5.0

_RECORD_ID = re.compile(r"demo-[0-9a-f]{8}-[0-9]{7,}\Z")
_CACHE_READS = re.compile(
    r"^\w*datanadhi_cache_reads(?:_total)?\{(?P<labels>[^}]*)\}\s+(?P<count>[0-9.e+]+)", re.MULTILINE
)
_OUTCOME = re.compile(r'outcome="(\w+)"')


def destination_of(request: ReceivedRequest) -> str:
    """Which destination a request is a delivery of."""
    return ARCHIVE if request.path.startswith("/hook/") else ALERTS


def arrivals(requests: Iterable[ReceivedRequest]) -> Iterator[Arrival]:
    """The deliveries at the receiver."""
    for request in requests:
        destination = destination_of(request)
        yield Arrival(destination, _id_in_text(request) if destination == ALERTS else _id_in_record(request))


def _id_in_record(request: ReceivedRequest) -> str | None:
    try:
        return str(request.json["messageId"])
    except (ValueError, KeyError, TypeError):
        return None


def _id_in_text(request: ReceivedRequest) -> str | None:
    """The id at the text's end, where the sample's template puts it."""
    try:
        found = _RECORD_ID.search(str(request.fields["text"]))
    except (ValueError, KeyError, TypeError):
        return None
    return found[0] if found else None


def stored_failures(folder: Path) -> Iterator[StoredFailure]:
    """The failures in a failure store that is a local folder."""
    for path in sorted(folder.rglob("*.json")):
        failure = orjson.loads(path.read_bytes())
        context = failure.get("context") or {}
        target = context.get("targetId")
        yield StoredFailure(
            place=target if target in END_NODES else PIPELINE,
            message_id=failure["messageId"],
            record_index=context.get("recordIndex", 0),
        )


@dataclass(frozen=True, slots=True)
class CacheReads:
    """How many reads each layer of the cache answered."""

    near: int = 0
    redis: int = 0
    mongodb: int = 0


async def scrape_cache_reads(metrics_address: str) -> CacheReads | None:
    """Ask a worker for its counters; None where it does not answer."""
    timeout = aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{metrics_address}/metrics") as answer,
        ):
            return count_cache_reads(await answer.text())
    except (aiohttp.ClientError, OSError):  # a time-out is an OSError
        return None


def count_cache_reads(metrics: str) -> CacheReads:
    """Sum the reads in Prometheus' text format: `near` and `negative` need nobody, a `hit` is Redis's."""
    counts = {"near": 0, "redis": 0, "mongodb": 0}
    for match in _CACHE_READS.finditer(metrics):
        outcome = _OUTCOME.search(match["labels"])
        counts[_layer(outcome[1] if outcome else "")] += int(float(match["count"]))
    return CacheReads(**counts)


def _layer(outcome: str) -> str:
    if outcome in {"near", "negative", "stale"}:
        return "near"
    return "redis" if outcome == "hit" else "mongodb"
