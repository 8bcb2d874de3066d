"""The account of a run: what the results say became of each record, held against what arrived and what was stored.

A record is accounted for if its workflow succeeded and every destination that its result names got it or has a stored
failure for it, and no other destination got it. Deliveries are made at least once: a second copy is counted and no
fault.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.demo.sample import END_NODES
from workers.demo.sending import Message, Outcome

PIPELINE = "pipeline"
"""Stands in for a destination where a record failed before it reached one."""

Places = Mapping[str, set[str]]
"""Destinations by record id."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivery that arrived: at which destination, of which record (None where it bears no id)."""

    destination: str
    record_id: str | None


@dataclass(frozen=True, slots=True)
class StoredFailure:
    """A failure as found in the failure store: where, of which message, and of which of its records."""

    place: str
    message_id: str
    record_index: int = 0


@dataclass(slots=True)
class Account:
    """What became of a run's records.

    Attributes:
        records: How many were sent.
        delivered: How many arrived, by destination.
        failed: How many have a stored failure, by destination or `pipeline`.
        filtered: How many the pipeline let end without a delivery.
        repeated: How many deliveries were a copy of an earlier one.
        problems: By record or message id, what is not accounted for.
        unaccounted: How many records those are.
    """

    records: int = 0
    delivered: dict[str, int] = field(default_factory=lambda: dict.fromkeys(END_NODES, 0))
    failed: dict[str, int] = field(default_factory=lambda: dict.fromkeys([*END_NODES, PIPELINE], 0))
    filtered: int = 0
    repeated: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    unaccounted: int = 0

    def add_problem(self, name: str, problem: str, records: int = 1) -> None:
        """Note what is not accounted for."""
        self.problems.append((name, problem))
        self.unaccounted += records


def draw_up(outcomes: Iterable[Outcome], arrivals: Iterable[Arrival], failures: Iterable[StoredFailure]) -> Account:
    """Draw up the account of a run."""
    account = Account()
    outcomes = list(outcomes)
    names = {outcome.message.message_id: outcome.message for outcome in outcomes}
    known = {record["messageId"] for message in names.values() for record in message.records}
    arrived = _arrived(account, arrivals, known)
    failed = _failed(account, failures, names)
    _count(account, arrived, failed)
    for outcome in outcomes:
        account.records += len(outcome.message.records)
        _check(account, outcome, arrived, failed)
    return account


def _arrived(account: Account, arrivals: Iterable[Arrival], known: set[str]) -> Places:
    places: dict[str, set[str]] = defaultdict(set)
    for arrival in arrivals:
        if arrival.record_id not in known or arrival.record_id is None:
            account.add_problem(arrival.record_id or "?", f"{arrival.destination} got what nobody sent", records=0)
        elif arrival.destination in places[arrival.record_id]:
            account.repeated += 1
        else:
            places[arrival.record_id].add(arrival.destination)
    return places


def _failed(account: Account, failures: Iterable[StoredFailure], messages: Mapping[str, Message]) -> Places:
    places: dict[str, set[str]] = defaultdict(set)
    for failure in failures:
        message = messages.get(failure.message_id)
        if message is None or failure.record_index >= len(message.records):
            account.add_problem(failure.message_id, "a failure was stored of what nobody sent", records=0)
            continue
        places[message.records[failure.record_index]["messageId"]].add(failure.place)
    return places


def _count(account: Account, arrived: Places, failed: Places) -> None:
    """Count by destination; what arrived and was refused there has failed."""
    for record_id, destinations in arrived.items():
        for destination in destinations - failed.get(record_id, set()):
            account.delivered[destination] += 1
    for places in failed.values():
        for place in places:
            account.failed[place] += 1


def _check(account: Account, outcome: Outcome, arrived: Places, failed: Places) -> None:
    message, result = outcome.message, outcome.result
    if outcome.problem:
        account.add_problem(message.message_id, outcome.problem, len(message.records))
    elif result.get("success") is not True:
        account.add_problem(message.message_id, f"refused: {result.get('reason')}", len(message.records))
    elif message.is_batch:
        _check_batch(account, message, result, arrived, failed)
    else:
        _check_record(account, message.message_id, result, arrived, failed)


def _check_record(account: Account, record_id: str, result: dict[str, Any], arrived: Places, failed: Places) -> None:
    got, failures = arrived.get(record_id, set()), failed.get(record_id, set())
    due = _due(result, got | failures)
    missing, unexpected = due - got - failures, got - due
    if missing:
        account.add_problem(record_id, f"never arrived at {', '.join(sorted(missing))}")
    elif unexpected:
        account.add_problem(record_id, f"arrived at {', '.join(sorted(unexpected))}, where it was not due")
    elif bool(result.get("failures")) != bool(failures):
        account.add_problem(record_id, "its result and the failure store differ on whether it failed")
    elif not due and not failures:
        account.filtered += 1


def _due(result: dict[str, Any], seen: set[str]) -> set[str]:
    """The destinations whose end nodes the record reached; what was seen where large outputs were left out."""
    if result.get("node_outputs_omitted"):
        return seen - {PIPELINE}
    return {node for node in END_NODES if result.get("node_outputs", {}).get(node)}


def _check_batch(account: Account, message: Message, result: dict[str, Any], arrived: Places, failed: Places) -> None:
    """A batch's result holds counts: each record once, as failed, else as delivered, else as filtered."""
    ids = [record["messageId"] for record in message.records]
    failures = sum(bool(failed.get(name)) for name in ids)
    deliveries = sum(bool(arrived.get(name)) and not failed.get(name) for name in ids)
    observed = {
        "records": len(ids),
        "delivered": deliveries,
        "filtered": len(ids) - deliveries - failures,
        "failed": failures,
    }
    differing = [
        f"{key}: {result.get(key)}, in truth {count}" for key, count in observed.items() if result.get(key) != count
    ]
    if differing:
        account.add_problem(message.message_id, f"its result says {'; '.join(differing)}", len(ids))
    else:
        account.filtered += observed["filtered"]
