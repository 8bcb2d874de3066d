"""Nodes: each type of node, compiled from its configuration. A broken one compiles into a node that fails when reached.

A configuration's other fields (its `name`, say) are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from activities.pipeline.errors import InvalidNodeError, PipelineError, quote
from activities.pipeline.rules import Condition, compile_condition
from activities.pipeline.transformations import Transformation, compile_transformation
from activities.pipeline.values import Record, kind_of

NodeIds = tuple[str, ...]


class Node(Protocol):
    """A compiled node."""

    @property
    def next(self) -> NodeIds:
        """Every node that a record may go on to from here."""

    @property
    def target_id(self) -> str | None:
        """Where a record is delivered to that gets here, or None where it is not."""

    def process(self, record: Record) -> tuple[Record, NodeIds]:
        """What the node makes of a record, and which nodes get it.

        Raises:
            PipelineError: The node fails on this record.
        """


@dataclass(frozen=True, slots=True)
class TransformationNode:
    """Makes a record from another."""

    transform: Transformation
    next: NodeIds
    target_id: None = None

    def process(self, record: Record) -> tuple[Record, NodeIds]:
        """The transformed record, for all next nodes."""
        return self.transform(record), self.next


@dataclass(frozen=True, slots=True)
class Filter:
    """A named way out of a branching node; without a condition everything passes."""

    name: str
    condition: Condition | None
    next: NodeIds

    def passes(self, record: Record) -> bool:
        """Whether a record goes this way."""
        if self.condition is None:
            return True
        try:
            return self.condition(record)
        except PipelineError as error:
            raise error.within(f"filter {quote(self.name)}") from None


@dataclass(frozen=True, slots=True)
class BranchingNode:
    """Sends a record on by every filter that it passes. Where a filter fails, so does the node."""

    filters: tuple[Filter, ...]
    next: NodeIds
    target_id: None = None

    def process(self, record: Record) -> tuple[Record, NodeIds]:
        """The record as it came, for the next nodes of every filter it passes, each node once, in order."""
        chosen: dict[str, None] = {}
        for way in self.filters:
            if way.passes(record):
                chosen.update(dict.fromkeys(way.next))
        return record, tuple(chosen)


@dataclass(frozen=True, slots=True)
class EndNode:
    """Delivers a record to a target."""

    target_id: str
    next: NodeIds = ()

    def process(self, record: Record) -> tuple[Record, NodeIds]:
        """The record as it came."""
        return record, self.next


@dataclass(frozen=True, slots=True)
class BrokenNode:
    """Fails whenever it is reached, because its configuration cannot be used."""

    error_type: type[PipelineError]
    message: str
    next: NodeIds = ()
    target_id: None = None

    def process(self, record: Record) -> NoReturn:  # noqa: ARG002 - the signature of every node
        """Fail; with a new error each time, because one raised again would keep every traceback it ever had."""
        raise self.error_type(self.message)


def compile_node(config: Any) -> Node:
    """Compile a node's configuration, as stored; never raises."""
    try:
        if not isinstance(config, dict):
            raise InvalidNodeError(f"the configuration is no object but {kind_of(config)}")
        node_type = config.get("type")
        compiler = NODE_TYPES.get(node_type) if isinstance(node_type, str) else None
        if compiler is None:
            raise InvalidNodeError(f"unknown node type {quote(node_type)}")
        return compiler(config)
    except PipelineError as error:
        return BrokenNode(type(error), str(error))


def _transformation_node(config: dict[str, Any]) -> Node:
    function = compile_transformation(config.get("transformation_fn"), config.get("transformation_params"))
    return TransformationNode(function, _next_nodes(config))


def _branching_node(config: dict[str, Any]) -> Node:
    filters = config.get("filters")
    if not isinstance(filters, dict):
        raise InvalidNodeError(f"the filters are no object but {kind_of(filters)}")
    ways = tuple(_filter(name, way) for name, way in filters.items())
    return BranchingNode(ways, tuple(dict.fromkeys(node_id for way in ways for node_id in way.next)))


def _filter(name: str, config: Any) -> Filter:
    try:
        if not isinstance(config, dict):
            raise InvalidNodeError(f"no object but {kind_of(config)}")
        condition = config.get("filter")  # null counts as none given
        compiled = None if condition is None else compile_condition(condition)
        return Filter(name, compiled, _next_nodes(config))
    except PipelineError as error:
        raise error.within(f"filter {quote(name)}") from None


def _end_node(config: dict[str, Any]) -> Node:
    target_id = config.get("target_id")
    if not isinstance(target_id, str) or not target_id:
        raise InvalidNodeError("an end node needs a target_id")
    return EndNode(target_id)


def _next_nodes(config: dict[str, Any]) -> NodeIds:
    node_ids = config.get("next")
    if node_ids is None:
        return ()
    if not isinstance(node_ids, list) or not all(isinstance(node_id, str) for node_id in node_ids):
        raise InvalidNodeError("next is no array of node ids")
    return tuple(node_ids)


NODE_TYPES: dict[str, Callable[[dict[str, Any]], Node]] = {
    "transformation": _transformation_node,
    "condition-branching": _branching_node,
    "end": _end_node,
}
"""Every type of node by its name in a configuration."""
