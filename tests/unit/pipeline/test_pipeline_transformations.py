"""Transformations: finding them by name, their parameters, and what the two of the contract do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from activities.pipeline import (
    InvalidNodeError,
    LimitExceededError,
    PathError,
    Record,
    Transformation,
    compile_transformation,
    transformation,
)
from activities.pipeline.transformations import TRANSFORMATIONS


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    """Leave the registry as it was found."""
    before = dict(TRANSFORMATIONS)
    yield
    TRANSFORMATIONS.clear()
    TRANSFORMATIONS.update(before)


@pytest.mark.parametrize("name", ["JSON.add_key", "Transformation.JSON.add_key"])
def test_both_forms_of_a_name_find_the_transformation(name: str) -> None:
    added = compile_transformation(name, {"key": "$.a.b", "value": 1})({"a": "no object", "c": 2})

    assert added == {"a": {"b": 1}, "c": 2}


@pytest.mark.parametrize("value", ["$.c", "{{ $.c }}", None, {"x": [1]}, False])
def test_add_key_takes_its_value_literally(value: Any) -> None:
    assert compile_transformation("JSON.add_key", {"key": "a", "value": value})({"c": 2}) == {"c": 2, "a": value}


def test_remove_key_removes_what_is_there() -> None:
    remove = compile_transformation("JSON.remove_key", {"key": "$.a.b"})

    assert remove({"a": {"b": 1, "c": 2}}) == {"a": {"c": 2}}
    assert remove({"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    "name",
    ["JSON.unknown", "add_key", "json.add_key", "Transformation.Transformation.JSON.add_key", "", None, 1, ["x"], {}],
)
def test_an_unknown_transformation_is_refused(name: Any) -> None:
    with pytest.raises(InvalidNodeError, match="unknown transformation"):
        compile_transformation(name, {"key": "a", "value": 1})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("JSON.add_key", {"key": "a"}),
        ("JSON.add_key", {"value": 1}),
        ("JSON.remove_key", {}),
        ("JSON.remove_key", None),
        ("JSON.remove_key", ["a"]),
    ],
)
def test_missing_parameters_are_refused_when_compiled(name: str, parameters: Any) -> None:
    with pytest.raises(InvalidNodeError, match=r"parameter"):
        compile_transformation(name, parameters)


@pytest.mark.parametrize("key", ["$..a", "", None, 3])
def test_a_malformed_key_is_refused_when_compiled(key: Any) -> None:
    for name in ("JSON.add_key", "JSON.remove_key"):
        with pytest.raises(PathError):
            compile_transformation(name, {"key": key, "value": 1})


def test_add_key_makes_no_record_deeper_than_the_bound() -> None:
    value: Any = []
    for _ in range(98):
        value = [value]

    compile_transformation("JSON.add_key", {"key": "a", "value": value})
    with pytest.raises(LimitExceededError):
        compile_transformation("JSON.add_key", {"key": "$.a.b", "value": value})


def test_a_registered_function_is_found_by_its_name() -> None:
    @transformation("JSON.keep")
    def keep(parameters: dict[str, Any]) -> Transformation:
        def kept(record: Record) -> Record:
            return {name: record[name] for name in parameters["keys"] if name in record}

        return kept

    assert compile_transformation("Transformation.JSON.keep", {"keys": ["a"]})({"a": 1, "b": 2}) == {"a": 1}
