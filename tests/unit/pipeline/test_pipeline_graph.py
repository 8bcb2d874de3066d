"""The graph: order, failures and bounds of a run, and what is refused before one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from activities.pipeline import (
    CompiledPipeline,
    NodeFailure,
    PipelineInvalidError,
    Record,
    RunResult,
    Transformation,
    compile_pipeline,
    runs,
    transformation,
)
from activities.pipeline.limits import MAX_NODE_VISITS, MAX_OUTCOMES
from activities.pipeline.transformations import TRANSFORMATIONS


def pipeline(nodes: dict[str, Any]) -> CompiledPipeline:
    return compile_pipeline(json.dumps(nodes).encode())


def run(nodes: dict[str, Any], record: Any, start: str = "start") -> RunResult:
    return pipeline(nodes).run(record, start, keep_outputs=True)


def end(target_id: Any = "target") -> dict[str, Any]:
    return {"type": "end", "target_id": target_id}


def add(key: str, *following: str, value: Any = 1) -> dict[str, Any]:
    return {
        "type": "transformation",
        "transformation_fn": "JSON.add_key",
        "transformation_params": {"key": key, "value": value},
        "next": list(following),
    }


def branch(**ways: Any) -> dict[str, Any]:
    """A branching node whose filters are given as next nodes alone or as whole configurations."""
    filters = {name: way if isinstance(way, dict) else {"next": way} for name, way in ways.items()}
    return {"type": "condition-branching", "filters": filters}


def only_failure(result: RunResult) -> NodeFailure:
    assert len(result.failures) == 1
    return result.failures[0]


GREATER = {"check": {"key": "a", "operator": "gt", "value": 1}}


def test_nodes_run_first_in_first_out() -> None:
    nodes = {
        "start": branch(all=["left", "right"]),
        "left": add("l", "deep"),
        "right": end("shallow"),
        "deep": end("deep"),
    }

    result = run(nodes, {})

    assert list(result.outputs) == ["start", "left", "right", "deep"]
    assert [delivery.target_id for delivery in result.deliveries] == ["shallow", "deep"]


def test_each_output_of_a_node_is_kept_in_an_array() -> None:
    nodes = {"start": branch(both=["x", "y"]), "x": add("x", "end"), "y": add("y", "end"), "end": end()}

    result = run(nodes, {"r": 0})

    assert result.outputs == {
        "start": [{"r": 0}],
        "x": [{"r": 0, "x": 1}],
        "y": [{"r": 0, "y": 1}],
        "end": [{"r": 0, "x": 1}, {"r": 0, "y": 1}],
    }


def test_outputs_are_kept_on_request_alone() -> None:
    result = pipeline({"start": end()}).run({}, "start")

    assert result.outputs == {}
    assert len(result.deliveries) == 1


def test_every_filter_is_tried_and_a_next_node_runs_once() -> None:
    nodes = {
        "start": branch(
            first=["b", "a"],
            never={"filter": GREATER, "next": ["c"]},
            second={"filter": None, "next": ["a", "c", "b"]},
        ),
        "a": end("a"),
        "b": end("b"),
        "c": end("c"),
    }

    assert [delivery.target_id for delivery in run(nodes, {"a": 0}).deliveries] == ["b", "a", "c"]


def test_branches_share_the_record_and_do_not_see_each_others_changes() -> None:
    record = {"user": {"id": 1}, "big": {}}
    nodes = {
        "start": branch(all=["x", "y"]),
        "x": add("$.user.x", "ex"),
        "y": add("$.user.y", "ey"),
        "ex": end(),
        "ey": end(),
    }

    result = run(nodes, record)

    assert [d.record["user"] for d in result.deliveries] == [{"id": 1, "x": 1}, {"id": 1, "y": 1}]
    assert all(delivery.record["big"] is record["big"] for delivery in result.deliveries)
    assert record == {"user": {"id": 1}, "big": {}}


BROKEN_NODES: list[tuple[Any, str, str]] = [
    ("text", "InvalidNodeError", "the configuration is no object but string"),
    ({}, "InvalidNodeError", "unknown node type (none)"),
    ({"type": "wait"}, "InvalidNodeError", "unknown node type 'wait'"),
    ({"type": ["end"]}, "InvalidNodeError", "unknown node type (a list)"),
    ({"type": "end"}, "InvalidNodeError", "an end node needs a target_id"),
    (end(""), "InvalidNodeError", "an end node needs a target_id"),
    (end(7), "InvalidNodeError", "an end node needs a target_id"),
    ({**add("a"), "transformation_fn": "JSON.explode"}, "InvalidNodeError", "unknown transformation 'JSON.explode'"),
    ({**add("a"), "transformation_params": None}, "InvalidNodeError", "the parameters are no object but null"),
    ({**add("a"), "transformation_params": {"key": "a"}}, "InvalidNodeError", "parameter 'value' is missing"),
    (add("$..a"), "PathError", "path '$..a' is malformed at character 1"),
    (add("a", value=json.loads("[" * 100 + "]" * 100)), "LimitExceededError", "nested deeper than 99 levels"),
    ({**add("a"), "next": "good"}, "InvalidNodeError", "next is no array of node ids"),
    ({**add("a"), "next": [1]}, "InvalidNodeError", "next is no array of node ids"),
    ({"type": "condition-branching"}, "InvalidNodeError", "the filters are no object but null"),
    (branch(way="good"), "InvalidNodeError", "filter 'way': next is no array of node ids"),
    ({"type": "condition-branching", "filters": {"way": 1}}, "InvalidNodeError", "filter 'way': no object but number"),
    (branch(way={"filter": {}, "next": []}), "ConditionError", "filter 'way': a condition is an object"),
    (
        branch(way={"filter": {"check": {"key": "a", "operator": "near", "value": 1}}}),
        "ConditionError",
        "filter 'way': unknown operator 'near'",
    ),
]


@pytest.mark.parametrize(("broken", "error_type", "message"), BROKEN_NODES)
def test_a_broken_node_fails_when_reached_and_harms_no_other_branch(broken: Any, error_type: str, message: str) -> None:
    nodes = {"start": branch(all=["broken", "good"]), "broken": broken, "good": end(), "unreached": broken}
    compiled = pipeline(nodes)
    compiled.check("start")

    for _ in range(2):
        result = compiled.run({"field": "secret"}, "start", keep_outputs=True)
        failure = only_failure(result)
        assert (failure.node_id, failure.error_type) == ("broken", error_type)
        assert failure.message.startswith(f"node 'broken': {message}")
        assert failure.input == {"field": "secret"}
        assert [delivery.node_id for delivery in result.deliveries] == ["good"]
        assert "broken" not in result.outputs


def test_a_next_node_that_is_not_there_is_a_failure_that_names_it() -> None:
    result = run({"start": add("a", "gone", "end"), "end": end()}, {})

    assert only_failure(result) == NodeFailure(
        "gone", "UnknownNodeError", "node 'gone': there is no such node", {"a": 1}
    )
    assert len(result.deliveries) == 1


def test_a_start_node_that_is_not_there_is_a_failure_that_names_it() -> None:
    assert only_failure(run({}, {})).node_id == "start"


def test_where_one_filter_fails_the_whole_node_does() -> None:
    nodes = {"start": branch(open=["end"], bad={"filter": GREATER, "next": ["end"]}), "end": end()}

    result = run(nodes, {"a": "secret"})

    assert only_failure(result) == NodeFailure(
        "start",
        "ComparisonError",
        "node 'start': filter 'bad': check of 'a': operator gt does not compare string with number",
        {"a": "secret"},
    )
    assert result.deliveries == []


def test_a_transformation_that_fails_ends_its_branch_alone() -> None:
    nodes = {"start": branch(all=["far", "end"]), "far": add("$.list[5]", "end"), "end": end()}

    result = run(nodes, {"list": [1]})

    assert only_failure(result).error_type == "PathError"
    assert [delivery.record for delivery in result.deliveries] == [{"list": [1]}]


@pytest.mark.parametrize(
    ("record", "kind"), [(None, "null"), ("text", "string"), ([{}], "array"), (1.5, "number"), (True, "boolean")]
)
def test_a_record_that_is_no_object_is_a_recorded_failure(record: Any, kind: str) -> None:
    assert only_failure(run({"start": end()}, record)) == NodeFailure(
        None, "InvalidRecordError", f"the record: it is no object but {kind}", record
    )


def nested(levels: int) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for _ in range(levels - 1):
        record = {"a": record}
    return record


def test_a_record_may_be_as_deep_as_the_bound_and_no_deeper() -> None:
    assert len(run({"start": end()}, nested(100)).deliveries) == 1
    for levels in (101, 10_000):
        failure = only_failure(run({"start": end()}, nested(levels)))
        assert (failure.error_type, failure.message) == (
            "LimitExceededError",
            "the record: nested deeper than 100 levels",
        )


def test_a_record_may_be_as_large_as_the_bound_and_no_larger() -> None:
    assert len(run({"start": end()}, {"a": [0] * 99_999}).deliveries) == 1
    assert only_failure(run({"start": end()}, {"a": [0] * 100_000})).error_type == "LimitExceededError"


def test_a_record_whose_parts_hold_each_other_over_and_over_is_refused() -> None:
    """Fifty levels of two references to the same thing: 2^50 values to whoever follows them all."""
    value: Any = []
    for _ in range(50):
        value = [value, value]

    assert only_failure(run({"start": end()}, {"a": value})).error_type == "LimitExceededError"


def diamonds(count: int, last: dict[str, Any]) -> dict[str, Any]:
    """A chain of diamonds: every one doubles the visits of all that follow."""
    nodes: dict[str, Any] = {}
    for index in range(count):
        nodes[f"top{index}"] = branch(both=[f"left{index}", f"right{index}"])
        nodes[f"left{index}"] = nodes[f"right{index}"] = add("a", f"top{index + 1}")
    return {**nodes, f"top{count}": last}


def test_node_visits_are_bounded() -> None:
    result = run(diamonds(40, end()), {}, "top0")

    assert only_failure(result).error_type == "LimitExceededError"
    assert only_failure(result).message.endswith("too many node visits")
    assert sum(map(len, result.outputs.values())) == MAX_NODE_VISITS


def test_the_largest_records_may_visit_fewer_nodes() -> None:
    """What a run copies is bounded, not only how many nodes it visits."""
    result = run(diamonds(40, end()), {"a": [0] * 90_000}, "top0")

    assert only_failure(result).error_type == "LimitExceededError"
    assert sum(map(len, result.outputs.values())) == 111


def test_a_crowd_of_next_nodes_fills_no_more_memory_than_may_be_visited() -> None:
    """Without a bound the queue would grow by half a million entries ten thousand times."""
    result = run({"start": add("a", *["start"] * 500_000)}, {})

    assert only_failure(result).message.endswith("too many node visits")


def test_the_time_a_record_takes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MAX_SECONDS", -1.0)

    result = run({"start": end()}, {})

    assert only_failure(result).message == "node 'start': the record is stopped here: it takes too long"
    assert result.deliveries == []


@pytest.mark.parametrize("last", [end(), {"type": "unknown"}])
def test_deliveries_and_failures_are_bounded(last: dict[str, Any]) -> None:
    result = run(diamonds(11, last), {}, "top0")

    assert result.failures[-1].message.endswith("too many deliveries and failures")
    assert len(result.deliveries) + len(result.failures) == MAX_OUTCOMES + 1


def test_a_cycle_is_bounded_when_run() -> None:
    result = run({"start": add("a", "start")}, {})

    assert only_failure(result).error_type == "LimitExceededError"


def test_a_cycle_is_refused_by_name() -> None:
    compiled = pipeline({"a": add("x", "b"), "b": branch(w=["end", "c"]), "c": add("x", "b"), "end": end()})

    for _ in range(2):
        with pytest.raises(PipelineInvalidError, match=r"cycle: 'b' -> 'c' -> 'b'$"):
            compiled.check("a")
    compiled.check("end")


def test_a_cycle_that_a_filter_guards_is_refused_all_the_same() -> None:
    with pytest.raises(PipelineInvalidError, match="'start' -> 'start'"):
        pipeline({"start": branch(way={"filter": GREATER, "next": ["start"]})}).check("start")


def test_diamonds_and_missing_nodes_are_no_cycle() -> None:
    pipeline(diamonds(40, add("x", "gone"))).check("top0")


def test_a_cycle_out_of_reach_is_no_matter() -> None:
    pipeline({"start": end(), "a": add("x", "a")}).check("start")


def test_a_chain_longer_than_pythons_stack_is_checked_and_its_cycle_named_in_short() -> None:
    nodes = {str(number): add("x", str(number + 1)) for number in range(5_000)}
    pipeline(nodes | {"5000": end()}).check("0")

    with pytest.raises(PipelineInvalidError) as caught:
        pipeline(nodes | {"5000": add("x", "0")}).check("0")
    assert "'0' -> '1' -> " in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_start_node_that_is_not_there_is_refused() -> None:
    with pytest.raises(PipelineInvalidError, match="the start node 'start' does not exist"):
        pipeline({"other": end()}).check("start")


@pytest.mark.parametrize(
    "nodes_json",
    [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe\xfa", b"[" * 10_000, b'{"a": ' + b"9" * 5_000 + b"}"],
)
def test_nodes_that_are_no_json_object_are_refused(nodes_json: bytes) -> None:
    with pytest.raises(PipelineInvalidError):
        compile_pipeline(nodes_json)


def test_a_pipeline_is_compiled_once_for_its_content() -> None:
    text = json.dumps({"start": end("compiled-once")})

    assert compile_pipeline(text.encode()) is compile_pipeline(text.encode())


def test_names_in_messages_are_printable_and_short() -> None:
    """A message must survive being written as UTF-8, whatever the node is called."""
    message = only_failure(run({"\ud800\n" + "x" * 1_000_000: 1}, {}, "\ud800\n" + "x" * 1_000_000)).message

    assert message.encode().startswith(rb"node '\ud800\nxxx")
    assert len(message) < 200


@pytest.fixture
def _faulty_transformation() -> Iterator[None]:
    @transformation("JSON.faulty")
    def faulty(_: dict[str, Any]) -> Transformation:
        def fail(record: Record) -> Record:
            raise KeyError(record["field"])

        return fail

    yield
    del TRANSFORMATIONS["JSON.faulty"]


@pytest.mark.usefixtures("_faulty_transformation")
def test_an_error_that_is_not_the_engines_own_is_recorded_without_its_message() -> None:
    nodes = {
        "start": branch(all=["faulty", "end"]),
        "faulty": {**add("a"), "transformation_fn": "JSON.faulty"},
        "end": end(),
    }

    result = run(nodes, {"field": "secret"})

    failure = only_failure(result)
    assert (failure.error_type, failure.message) == ("KeyError", "node 'faulty': unexpected error")
    assert len(result.deliveries) == 1
