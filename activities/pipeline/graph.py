"""A pipeline: its nodes compiled once, checked, and run for every record."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from activities.pipeline import runs
from activities.pipeline.errors import PipelineInvalidError, quote
from activities.pipeline.nodes import Node, compile_node
from activities.pipeline.values import kind_of

_COMPILED_PIPELINES = 256
_NAMED_IN_A_CYCLE = 20


class CompiledPipeline:
    """The nodes of a pipeline, ready to run. It holds no record and can be shared between threads."""

    __slots__ = ("_checked", "_nodes")

    def __init__(self, nodes: dict[str, Node]) -> None:
        self._nodes = nodes
        self._checked: set[str] = set()

    def check(self, start_node_id: str) -> None:
        """Make sure that a record can start there and will come to an end.

        Raises:
            PipelineInvalidError: The start node is not there, or a cycle can be reached from it.
        """
        if start_node_id in self._checked:
            return
        if start_node_id not in self._nodes:
            raise PipelineInvalidError(f"the start node {quote(start_node_id)} does not exist")
        cycle = self._cycle_from(start_node_id)
        if cycle:
            names = [quote(node_id) for node_id in cycle]
            shown = names if len(names) <= _NAMED_IN_A_CYCLE else [*names[:_NAMED_IN_A_CYCLE], "..."]
            raise PipelineInvalidError(f"the nodes run in a cycle: {' -> '.join(shown)}")
        self._checked.add(start_node_id)

    def run(self, record: Any, start_node_id: str, *, keep_outputs: bool = False) -> runs.RunResult:
        """Run a record through the pipeline, first in, first out. Never raises: what fails is in the result.

        Args:
            record: A JSON object, or whatever was sent in its place; it is never changed.
            start_node_id: The node that it enters at.
            keep_outputs: Whether the outputs of the nodes are wanted.
        """
        return runs.run(self._nodes, record, start_node_id, keep_outputs=keep_outputs)

    def _cycle_from(self, start_node_id: str) -> list[str]:
        """The nodes of a cycle that can be reached, its first node again at the end; empty where there is none."""
        trail: dict[str, None] = {start_node_id: None}
        finished: set[str] = set()
        ahead = [iter(self._nodes[start_node_id].next)]
        while ahead:  # no recursion: a chain of nodes may be longer than Python's stack
            node_id = next(ahead[-1], None)
            if node_id is None:
                ahead.pop()
                finished.add(trail.popitem()[0])
            elif node_id in trail:
                walked = list(trail)
                return [*walked[walked.index(node_id) :], node_id]
            elif node_id not in finished and node_id in self._nodes:
                trail[node_id] = None
                ahead.append(iter(self._nodes[node_id].next))
        return []


@lru_cache(maxsize=_COMPILED_PIPELINES)
def compile_pipeline(nodes_json: bytes) -> CompiledPipeline:
    """Compile a pipeline's nodes; the most recent ones are remembered by their content.

    A node that cannot be used compiles into one that fails when it is reached: it does no harm to other branches.

    Args:
        nodes_json: `{nodeId: nodeConfig}` as JSON.

    Raises:
        PipelineInvalidError: It is no JSON object.
    """
    try:  # a ValueError: malformed, in another encoding, a number too long; a RecursionError: nested too deeply
        nodes = json.loads(nodes_json)
    except (ValueError, RecursionError) as error:
        raise PipelineInvalidError("the nodes are not JSON that can be read") from error
    if not isinstance(nodes, dict):
        raise PipelineInvalidError(f"the nodes are no object but {kind_of(nodes)}")
    return CompiledPipeline({node_id: compile_node(config) for node_id, config in nodes.items()})
