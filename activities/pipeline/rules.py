"""Conditions on a record: `and`, `or` and `check`, compiled into functions.

A check compares the value at `key` (a path, or a top-level field's name) with `value` (a path where it is written as
one, else the value itself). A missing path is null. How the operators compare:

- `et`, `ne`: JSON equality. 1 equals 1.0 but not true, null equals null, NaN equals nothing.
- `exists`, `not_exists`: whether there is anything but null; they take no `value`.
- `gt`, `gte`, `lt`, `lte`: number with number, or text with text by code point. With null on either side the answer is
  no; between any other types there is no answer, and the check fails.

`and` and `or` go from left to right and stop as soon as the outcome is certain; empty ones are true.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from activities.pipeline.errors import ComparisonError, ConditionError, quote
from activities.pipeline.limits import MAX_CONDITION_DEPTH
from activities.pipeline.paths import compile_path, is_path
from activities.pipeline.values import NULL, NUMBER, STRING, Record, json_equal, kind_of

Condition = Callable[[Record], bool]
"""A compiled condition.

Raises:
    ComparisonError: An operator met values of types that do not compare.
"""


@dataclass(frozen=True, slots=True)
class Operator:
    """What an operator does.

    Attributes:
        compare: Takes the value at the key and the one to compare with (None for an operator that takes none).
        takes_value: Whether a check must give a `value`.
    """

    compare: Callable[[Any, Any], bool]
    takes_value: bool = True


def _ordering(name: str, compare: Callable[[Any, Any], bool]) -> Operator:
    def ordered(left: Any, right: Any) -> bool:
        left_kind, right_kind = kind_of(left), kind_of(right)
        if left_kind == right_kind and left_kind in {NUMBER, STRING}:
            return compare(left, right)
        if NULL in {left_kind, right_kind}:
            return False
        raise ComparisonError(f"operator {name} does not compare {left_kind} with {right_kind}")

    return Operator(ordered)


OPERATORS: dict[str, Operator] = {
    "et": Operator(json_equal),
    "ne": Operator(lambda left, right: not json_equal(left, right)),
    "gt": _ordering("gt", operator.gt),
    "gte": _ordering("gte", operator.ge),
    "lt": _ordering("lt", operator.lt),
    "lte": _ordering("lte", operator.le),
    "exists": Operator(lambda left, _: left is not None, takes_value=False),
    "not_exists": Operator(lambda left, _: left is None, takes_value=False),
}
"""Every operator by its name in a check."""


def compile_condition(condition: Any) -> Condition:
    """Compile `{"and": [...]}`, `{"or": [...]}` or `{"check": {"key", "operator", "value"}}`.

    Raises:
        ConditionError: It is malformed, names an unknown operator, or is nested deeper than `MAX_CONDITION_DEPTH`.
        PathError: A path in it is malformed.
    """
    return _compile(condition, MAX_CONDITION_DEPTH)


def _compile(condition: Any, levels_left: int) -> Condition:
    if not levels_left:
        raise ConditionError(f"nested deeper than {MAX_CONDITION_DEPTH} levels")
    if not isinstance(condition, dict) or len(condition) != 1:
        raise ConditionError("a condition is an object with one key: and, or, check")
    ((name, content),) = condition.items()
    if name == "check":
        return _compile_check(content)
    if name not in {"and", "or"}:
        raise ConditionError(f"unknown condition {quote(name)}")
    if not isinstance(content, list):
        raise ConditionError(f"{name} holds no array of conditions but {kind_of(content)}")
    parts = tuple(_compile(part, levels_left - 1) for part in content)
    return _all_of(parts) if name == "and" else _any_of(parts)


def _all_of(parts: tuple[Condition, ...]) -> Condition:
    def all_hold(record: Record) -> bool:
        for part in parts:  # noqa: SIM110 - all() over a generator takes twice as long, for every record
            if not part(record):
                return False
        return True

    return all_hold


def _any_of(parts: tuple[Condition, ...]) -> Condition:
    def any_holds(record: Record) -> bool:
        for part in parts:
            if part(record):
                return True
        return not parts

    return any_holds


def _compile_check(check: Any) -> Condition:
    if not isinstance(check, dict):
        raise ConditionError(f"check holds no object but {kind_of(check)}")
    name = check.get("operator")
    chosen = OPERATORS.get(name) if isinstance(name, str) else None
    if chosen is None:
        raise ConditionError(f"unknown operator {quote(name)}")
    path = compile_path(check.get("key"))
    if chosen.takes_value and "value" not in check:
        raise ConditionError(f"operator {name} at {quote(path.text)} has no value to compare with")
    return _check(path.text, path.get, chosen.compare, check.get("value"))


def _check(key: str, get: Callable[[Record, Any], Any], compare: Callable[[Any, Any], bool], value: Any) -> Condition:
    other = compile_path(value).get if is_path(value) else None

    def holds(record: Record) -> bool:
        expected = value if other is None else other(record, None)
        try:
            return compare(get(record, None), expected)
        except ComparisonError as error:
            raise error.within(f"check of {quote(key)}") from None

    return holds
