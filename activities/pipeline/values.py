"""JSON values: what kind each is, when two are equal, and whether one is small enough to work with."""

from __future__ import annotations

from typing import Any

from activities.pipeline.errors import LimitExceededError
from activities.pipeline.limits import MAX_DEPTH, MAX_VALUES

Record = dict[str, Any]
"""A log record: a JSON object. The engine never changes one; what it makes shares the parts that it did not touch."""

NULL, NUMBER, STRING = "null", "number", "string"

_CONTAINERS = (dict, list)

_KINDS: dict[type, str] = {
    type(None): NULL,
    bool: "boolean",
    int: NUMBER,
    float: NUMBER,
    str: STRING,
    list: "array",
    dict: "object",
}


def kind_of(value: Any) -> str:
    """JSON's name for the type of a value: null, boolean, number, string, array or object.

    A value that no JSON document can hold is called by its Python type.
    """
    value_type = type(value)
    return _KINDS.get(value_type) or value_type.__name__


def json_equal(left: Any, right: Any) -> bool:
    """Whether two values are the same JSON.

    1 equals 1.0, but not true; objects are equal whatever the order of their keys; NaN equals nothing.
    """
    if not isinstance(left, _CONTAINERS):
        return kind_of(left) == kind_of(right) and bool(left == right)
    pending: list[tuple[Any, Any]] = [(left, right)]
    while pending:  # no recursion: either value may be nested deeper than Python's stack
        one, other = pending.pop()
        if kind_of(one) != kind_of(other):
            return False
        if isinstance(one, dict):
            if one.keys() != other.keys():
                return False
            pending.extend((value, other[key]) for key, value in one.items())
        elif isinstance(one, list):
            if len(one) != len(other):
                return False
            pending.extend(zip(one, other, strict=True))
        elif one != other:
            return False
    return True


def require_bounded(value: Any, *, max_depth: int = MAX_DEPTH) -> int:
    """Count the fields and items in a value, all levels together, and make sure that it is within bounds.

    Raises:
        LimitExceededError: It is nested deeper than `max_depth` or holds more than `MAX_VALUES` values.
    """
    level = [value] if isinstance(value, _CONTAINERS) else []
    depth = count = 0
    while level:
        depth += 1
        if depth > max_depth:
            raise LimitExceededError(f"nested deeper than {max_depth} levels")
        deeper: list[Any] = []
        for container in level:
            count += len(container)
            if count > MAX_VALUES:
                raise LimitExceededError(f"more than {MAX_VALUES} values")
            items = container.values() if isinstance(container, dict) else container
            deeper += [item for item in items if isinstance(item, _CONTAINERS)]
        level = deeper
    return count
