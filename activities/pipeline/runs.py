"""A run: one record on its way through a pipeline's nodes, and what became of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from activities.pipeline.errors import (
    InvalidRecordError,
    LimitExceededError,
    PipelineError,
    UnknownNodeError,
    quote,
)
from activities.pipeline.limits import MAX_COPIED_VALUES, MAX_NODE_VISITS, MAX_OUTCOMES, MAX_SECONDS
from activities.pipeline.nodes import Node, NodeIds
from activities.pipeline.values import Record, kind_of, require_bounded


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record that reached an end node, as it is by then."""

    node_id: str
    target_id: str
    record: Record


@dataclass(frozen=True, slots=True)
class NodeFailure:
    """A branch that ended in failure.

    Attributes:
        node_id: Where, or None where the record could not even start.
        error_type: Name of the error's class.
        message: What was wrong; it never holds the record's contents.
        input: What the node was given.
    """

    node_id: str | None
    error_type: str
    message: str
    input: Any


@dataclass(slots=True)
class RunResult:
    """What became of a record. Its records share parts with one another and with the pipeline: don't change them.

    Attributes:
        deliveries: In the order in which end nodes were reached.
        failures: In the order in which they happened.
        outputs: `{node id: [output, ...]}` of the nodes that did not fail; empty unless it was asked for.
    """

    deliveries: list[Delivery] = field(default_factory=list)
    failures: list[NodeFailure] = field(default_factory=list)
    outputs: dict[str, list[Record]] = field(default_factory=dict)


def run(nodes: Mapping[str, Node], record: Any, start_node_id: str, *, keep_outputs: bool) -> RunResult:
    """Run a record through the nodes, first in, first out. Never raises: what fails is in the result."""
    try:
        visits = _visits_allowed(record)
    except PipelineError as error:
        return RunResult(failures=[_failure(None, error, record)])
    one_run = _Run(nodes, visits, keep_outputs=keep_outputs)
    one_run.walk(record, start_node_id)
    return one_run.result


class _Run:
    __slots__ = ("_deadline", "_keep_outputs", "_nodes", "_visits_left", "result")

    def __init__(self, nodes: Mapping[str, Node], visits: int, *, keep_outputs: bool) -> None:
        self._nodes = nodes
        self._visits_left = visits
        self._deadline = time.monotonic() + MAX_SECONDS
        self._keep_outputs = keep_outputs
        self.result = RunResult()

    def walk(self, record: Record, start_node_id: str) -> None:
        queue: deque[tuple[str, Record]] = deque([(start_node_id, record)])
        while queue:
            node_id, current = queue.popleft()
            passed = self._passed_bound()
            if passed is not None:
                error = LimitExceededError(f"the record is stopped here: {passed}")
                self.result.failures.append(_failure(node_id, error, current))
                return
            self._visits_left -= 1
            try:
                output, following = self._visit(node_id, current)
            except Exception as reason:  # noqa: BLE001 - whatever is wrong with one node must leave the others running
                self.result.failures.append(_failure(node_id, reason, current))
            else:
                # One more than may be visited: enough to notice, and a node with a million next ones fills no memory.
                room = self._visits_left + 1 - len(queue)
                for next_id in following[:room]:
                    queue.append((next_id, output))

    def _passed_bound(self) -> str | None:
        if not self._visits_left:
            return "too many node visits"
        if len(self.result.deliveries) + len(self.result.failures) >= MAX_OUTCOMES:
            return "too many deliveries and failures"
        if time.monotonic() > self._deadline:
            return "it takes too long"
        return None

    def _visit(self, node_id: str, record: Record) -> tuple[Record, NodeIds]:
        node = self._nodes.get(node_id)
        if node is None:
            raise UnknownNodeError("there is no such node")
        output, following = node.process(record)
        if node.target_id is not None:
            self.result.deliveries.append(Delivery(node_id, node.target_id, output))
        if self._keep_outputs:
            self.result.outputs.setdefault(node_id, []).append(output)
        return output, following


def _visits_allowed(record: Any) -> int:
    """How many nodes a record of this size may visit; raises where it cannot be run at all."""
    if not isinstance(record, dict):
        raise InvalidRecordError(f"it is no object but {kind_of(record)}")
    values = require_bounded(record)
    return min(MAX_NODE_VISITS, MAX_COPIED_VALUES // max(values, 1))


def _failure(node_id: str | None, error: Exception, given: Any) -> NodeFailure:
    place = "the record" if node_id is None else f"node {quote(node_id)}"
    # An error that is not the engine's own may quote the record: its message stays out.
    reason = str(error) if isinstance(error, PipelineError) else "unexpected error"
    return NodeFailure(node_id, type(error).__name__, f"{place}: {reason}", given)
