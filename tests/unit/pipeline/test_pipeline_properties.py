"""Properties of the engine for any JSON: it raises nothing but its own errors and never changes its input."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from activities.pipeline import (
    MISSING,
    PipelineError,
    compile_condition,
    compile_path,
    compile_pipeline,
    compile_template,
    compile_transformation,
)
from activities.pipeline import errors as engine_errors

untimed = settings(deadline=None)  # no test asserts how long anything takes

# Few names, so that paths often lead somewhere; surrogates, because JSON's \u escapes can smuggle in lone ones.
names = st.sampled_from(["a", "b", "list", "odd.key", "it's", "", "\ud800"]) | st.text(max_size=3)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 2**63]),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.sampled_from(["$.a", "$.a.b", "{{ $.a }}", r"\$", "$.", "$[", "\udfff"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
records = st.dictionaries(names, values, max_size=5)


def written(step: str | int) -> str:
    """A step as it is written in a path."""
    if isinstance(step, int):
        return f"[{step}]"
    escaped = step.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{escaped}']"


steps = st.tuples(names, st.lists(names | st.integers(-3, 3), max_size=4)).map(lambda pair: [pair[0], *pair[1]])
paths = steps.map(lambda taken: "$" + "".join(written(step) for step in taken))
anything_as_path = st.one_of(paths, st.text(alphabet="$.[]'\"\\ab0-1 ", max_size=12), values)

checks = st.fixed_dictionaries(
    {},
    optional={
        "key": anything_as_path,
        "operator": st.sampled_from(["et", "ne", "gt", "gte", "lt", "lte", "exists", "not_exists"]) | values,
        "value": values | paths,
    },
).map(lambda check: {"check": check})
conditions = st.recursive(
    checks | values,
    lambda inner: st.lists(inner, max_size=3).flatmap(
        lambda parts: st.sampled_from([{"and": parts}, {"or": parts}, {"not": parts}])
    ),
    max_leaves=6,
)
node_ids = st.sampled_from(["n1", "n2", "n3", "gone"])
nexts = st.lists(node_ids, max_size=3) | values
nodes = st.one_of(
    values,
    st.fixed_dictionaries({"type": st.just("end")}, optional={"target_id": st.just("t") | values}),
    st.fixed_dictionaries(
        {
            "type": st.just("transformation"),
            "transformation_fn": st.sampled_from(["JSON.add_key", "JSON.remove_key"]) | values,
            "transformation_params": st.fixed_dictionaries({"key": anything_as_path, "value": values}) | values,
            "next": nexts,
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("condition-branching"),
            "filters": st.dictionaries(
                names,
                st.fixed_dictionaries({"next": nexts}, optional={"filter": conditions}) | values,
                max_size=3,
            )
            | values,
        }
    ),
)


def frozen(value: Any) -> bytes:
    """A snapshot that tells 1 from True and keeps NaN."""
    return pickle.dumps(copy.deepcopy(value))


@untimed
@given(records, anything_as_path, values)
def test_paths_raise_only_their_own_errors_and_leave_the_record_alone(record: Any, text: Any, value: Any) -> None:
    before = frozen(record)
    with contextlib.suppress(PipelineError):
        path = compile_path(text)
        path.get(record)
        path.remove(record)
        path.set(record, value)
    assert frozen(record) == before


@untimed
@given(records, paths, values)
def test_what_was_set_is_there_and_what_was_removed_is_not(record: Any, text: str, value: Any) -> None:
    path = compile_path(text)
    with contextlib.suppress(PipelineError):
        changed = path.set(record, value)
        assert path.get(changed) is value or any(step == -1 for step in path.steps)
    removed = path.remove(record)
    if not any(isinstance(step, int) for step in path.steps):
        assert path.get(removed) is MISSING


@untimed
@given(steps)
def test_a_path_reads_back_the_steps_it_was_written_from(taken: list[str | int]) -> None:
    assert list(compile_path("$" + "".join(written(step) for step in taken)).steps) == taken


@untimed
@given(records, conditions)
def test_conditions_answer_yes_or_no_or_raise_their_own_errors(record: Any, condition: Any) -> None:
    before = frozen((record, condition))
    with contextlib.suppress(PipelineError):
        assert compile_condition(condition)(record) in {True, False}
    assert frozen((record, condition)) == before


@untimed
@given(values, values)
def test_equality_is_that_of_the_json_text(left: Any, right: Any) -> None:
    """Where two values are written the same they are equal, NaN aside; equality goes both ways."""
    condition = compile_condition({"check": {"key": "left", "operator": "et", "value": "$.right"}})
    answer = condition({"left": left, "right": right})

    assert answer is condition({"left": right, "right": left})
    if json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True) and "NaN" not in json.dumps(left):
        assert answer


@untimed
@given(
    records,
    st.lists(st.one_of(paths.map("{{{{ {} }}}}".format), st.text(max_size=8), st.sampled_from(["{{", "}}", r"\$"]))),
)
def test_templates_render_or_raise_their_own_errors(record: Any, pieces: list[str]) -> None:
    before = frozen(record)
    with contextlib.suppress(PipelineError):
        assert isinstance(compile_template("".join(pieces)).render(record), str)
    assert frozen(record) == before


@untimed
@given(st.text(), values)
def test_text_without_placeholders_renders_as_itself(text: str, value: Any) -> None:
    plain = text.replace("{{", "").replace("$", "")

    assert compile_template(plain).render({"a": value}) == plain


@untimed
@given(
    records,
    st.sampled_from(["JSON.add_key", "JSON.remove_key", "Transformation.JSON.add_key"]) | values,
    st.fixed_dictionaries({}, optional={"key": anything_as_path, "value": values}) | values,
)
def test_transformations_raise_only_their_own_errors_and_leave_the_record_alone(
    record: Any, name: Any, parameters: Any
) -> None:
    before = frozen((record, parameters))
    with contextlib.suppress(PipelineError):
        assert isinstance(compile_transformation(name, parameters)(record), dict)
    assert frozen((record, parameters)) == before


@settings(untimed, max_examples=50)
@given(
    records | values,
    st.fixed_dictionaries({"n1": nodes}, optional={"n2": nodes, "n3": nodes}),
    st.sampled_from(["n1", "gone"]),
)
def test_any_pipeline_comes_to_an_end_with_its_own_errors_alone(record: Any, config: Any, start: str) -> None:
    before = frozen(record)
    pipeline = compile_pipeline(json.dumps(config).encode())
    with contextlib.suppress(PipelineError):
        pipeline.check(start)
    result = pipeline.run(record, start, keep_outputs=True)

    assert frozen(record) == before
    for failure in result.failures:
        assert issubclass(getattr(engine_errors, failure.error_type), PipelineError)


@untimed
@given(st.binary(max_size=50) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_compile_or_are_refused(nodes_json: bytes) -> None:
    with contextlib.suppress(PipelineError):
        compile_pipeline(nodes_json)
