"""Conditions: what each operator answers for each pair of types, and which conditions are refused."""

from __future__ import annotations

from typing import Any

import pytest

from activities.pipeline import ComparisonError, ConditionError, PathError, PipelineError, compile_condition

NAN = float("nan")
INFINITY = float("inf")
HUGE = 10**400
ABSENT = object()


def check(operator: str, left: Any, right: Any = ABSENT) -> bool:
    """Evaluate one check of a field that holds `left`, or is absent, against `right`."""
    record = {} if left is ABSENT else {"field": left}
    condition = {"key": "$.field", "operator": operator}
    return compile_condition({"check": condition if right is ABSENT else {**condition, "value": right}})(record)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("a", "a", True),
        ("a", "b", False),
        (1, 1.0, True),
        (HUGE, HUGE, True),
        (HUGE, INFINITY, False),
        (0, -0.0, True),
        (1, True, False),
        (0, False, False),
        (1, "1", False),
        (None, None, True),
        (ABSENT, None, True),
        (None, False, False),
        (None, "", False),
        (NAN, NAN, False),
        ([NAN], [NAN], False),
        ([1, 2], [1.0, 2.0], True),
        ([1], [True], False),
        ([1, 2], [1], False),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": None}, {}, False),
        ({}, [], False),
        ("\ud800", "\ud800", True),
    ],
)
def test_et_is_json_equality_and_ne_its_opposite(left: Any, right: Any, *, equal: bool) -> None:
    assert check("et", left, right) is equal
    assert check("ne", left, right) is not equal


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        (1, 2, -1),
        (2, 2.0, 0),
        (3, 2, 1),
        (HUGE, 1.5, 1),
        (HUGE, INFINITY, -1),
        (-HUGE, -INFINITY, 1),
        ("a", "b", -1),
        ("b", "b", 0),
        ("ab", "a", 1),
        ("Z", "a", -1),
        ("10", "9", -1),
        ("\udfff", "\ud800", 1),
    ],
)
def test_numbers_and_texts_are_ordered(left: Any, right: Any, order: int) -> None:
    answers = [check(name, left, right) for name in ("lt", "lte", "gte", "gt")]

    assert answers == [order < 0, order <= 0, order >= 0, order > 0]


@pytest.mark.parametrize("operator", ["gt", "gte", "lt", "lte"])
@pytest.mark.parametrize(
    ("left", "right"), [(ABSENT, 1), (None, 1), (1, None), (None, None), (ABSENT, "$.other"), ([], None), (NAN, NAN)]
)
def test_nothing_is_ordered_against_null_or_nan(operator: str, left: Any, right: Any) -> None:
    assert check(operator, left, right) is False


@pytest.mark.parametrize("operator", ["gt", "gte", "lt", "lte"])
@pytest.mark.parametrize(
    ("left", "right", "types"),
    [
        ("secret", 41, "string with number"),
        (41, "secret", "number with string"),
        (True, 1, "boolean with number"),
        (True, False, "boolean with boolean"),
        ([1], [2], "array with array"),
        ({"a": 1}, 1, "object with number"),
    ],
)
def test_other_types_do_not_compare(operator: str, left: Any, right: Any, types: str) -> None:
    """The message names the key, the operator and the types, and shows neither value."""
    with pytest.raises(ComparisonError) as caught:
        check(operator, left, right)

    assert str(caught.value) == f"check of '$.field': operator {operator} does not compare {types}"


@pytest.mark.parametrize(("left", "there"), [(0, True), ("", True), (False, True), ([], True), (None, False)])
def test_exists_asks_for_anything_but_null(left: Any, *, there: bool) -> None:
    assert check("exists", left) is there
    assert check("not_exists", left) is not there


def test_a_missing_path_does_not_exist() -> None:
    assert check("exists", ABSENT) is False
    assert check("not_exists", ABSENT) is True


def test_a_value_written_as_a_path_is_looked_up() -> None:
    condition = compile_condition({"check": {"key": "$.user.tier", "operator": "et", "value": "$.wanted"}})

    assert condition({"user": {"tier": "gold"}, "wanted": "gold"})
    assert not condition({"user": {"tier": "gold"}, "wanted": "iron"})
    assert condition({}), "two missing paths are both null"


def test_a_key_that_is_no_path_is_a_top_level_field() -> None:
    condition = compile_condition({"check": {"key": "user.tier", "operator": "et", "value": "$5"}})

    assert condition({"user.tier": "$5"})
    assert not condition({"user": {"tier": "$5"}})


YES = {"check": {"key": "yes", "operator": "exists"}}
NO = {"check": {"key": "no", "operator": "exists"}}
FAILS = {"check": {"key": "yes", "operator": "gt", "value": "text"}}


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        ({"and": []}, True),
        ({"or": []}, True),
        ({"and": [YES, YES]}, True),
        ({"and": [YES, NO]}, False),
        ({"or": [NO, YES]}, True),
        ({"or": [NO, NO]}, False),
        ({"and": [YES, {"or": [NO, {"and": [YES]}]}]}, True),
        ({"and": [NO, FAILS]}, False),
        ({"or": [YES, FAILS]}, True),
    ],
)
def test_and_and_or_combine_and_stop_when_certain(condition: Any, *, outcome: bool) -> None:
    assert compile_condition(condition)({"yes": 1}) is outcome


@pytest.mark.parametrize(
    "condition",
    [
        *(None, [], "a", 1, True, {}, {"xor": []}, {"and": [YES], "or": [YES]}, {"and": YES}, {"or": None}),
        *({"and": [YES, None]}, {"check": None}, {"check": [YES]}, {"check": {}}),
        {"check": {"key": "a", "operator": "equals", "value": 1}},
        {"check": {"key": "a", "operator": ["et"], "value": 1}},
        {"check": {"key": "a", "operator": "et"}},
        {"check": {"key": "a", "value": 1}},
    ],
)
def test_a_malformed_condition_is_refused_when_compiled(condition: Any) -> None:
    with pytest.raises(ConditionError):
        compile_condition(condition)


@pytest.mark.parametrize("fields", [{"key": "$..a"}, {"key": ""}, {}, {"key": 1}, {"key": "a", "value": "$.a["}])
def test_a_malformed_path_in_a_check_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(PathError):
        compile_condition({"check": {"operator": "et", "value": 1, **fields}})


def test_conditions_nest_as_deep_as_the_bound_and_no_deeper() -> None:
    def nested(levels: int) -> Any:
        condition: Any = YES
        for _ in range(levels - 1):
            condition = {"and": [condition]}
        return condition

    assert compile_condition(nested(50))({"yes": 1})
    for levels in (51, 10_000):
        with pytest.raises(PipelineError, match="nested deeper"):
            compile_condition(nested(levels))


def test_values_nested_deeper_than_pythons_stack_are_compared() -> None:
    def nested(innermost: Any) -> Any:
        value = innermost
        for _ in range(10_000):
            value = [value]
        return value

    assert check("et", nested(1), nested(1.0)) is True
    assert check("et", nested(1), nested(2)) is False
