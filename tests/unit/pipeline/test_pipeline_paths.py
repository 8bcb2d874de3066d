"""Paths: what each form leads to, and what setting and removing make of a record."""

from __future__ import annotations

from typing import Any

import pytest

from activities.pipeline import MISSING, PathError, compile_path

RECORD = {
    "a": {"b": {"c": 1}, "nothing": None},
    "list": [{"id": "x"}, {"id": "y"}],
    "odd.key": 2,
    "it's": 3,
    "a b": 4,
    "$plain": 5,
    "$": 6,
    "": 7,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.a.b.c", 1),
        ("$.a.b", {"c": 1}),
        ("$.a.nothing", None),
        ("$.list[0].id", "x"),
        ("$.list[-1].id", "y"),
        ("$['odd.key']", 2),
        ('$["odd.key"]', 2),
        (r"$['it\'s']", 3),
        ("$['a']['b'].c", 1),
        ("$['']", 7),
        ("$.a b", 4),
        ("a b", 4),
        ("odd.key", 2),
        ("$plain", 5),
        ("$", 6),
        ("$.a.missing", MISSING),
        ("$.a.nothing.deeper", MISSING),
        ("$.a.b.c.deeper", MISSING),
        ("$.list.id", MISSING),
        ("$.list[2]", MISSING),
        ("$.list[-3]", MISSING),
        ("$.a[0]", MISSING),
        ("$.list[0].id[0]", MISSING),
        ("missing", MISSING),
    ],
)
def test_a_path_leads_to_a_value_or_to_nothing(path: str, value: Any) -> None:
    found = compile_path(path).get(RECORD)

    assert found is value if value is MISSING else found == value


@pytest.mark.parametrize(
    "path",
    [
        *("", "$.", "$..a", "$.a.", "$.a..b", "$[", "$[]", "$.a[", "$.a[x]", "$.a[1", "$.a[1.5]", "$.a]", "$.a[0]b"),
        *("$['a", "$['a'", "$['a'']", "$[a]", "$[0]", "$[0].a", "$.a[1234567890]", "$.a[٣]", "$" + ".a" * 101),
        *(None, 1, ["a"], {"a": 1}),
    ],
)
def test_a_malformed_path_is_refused_when_compiled(path: Any) -> None:
    with pytest.raises(PathError):
        compile_path(path)


def test_the_message_says_where_a_path_is_malformed() -> None:
    with pytest.raises(PathError, match=r"'\$\.user\.\.id' is malformed at character 6"):
        compile_path("$.user..id")


def test_a_path_of_ten_megabytes_is_refused_with_a_short_message() -> None:
    with pytest.raises(PathError) as caught:
        compile_path("$['" + r"\x" * 5_000_000)

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("record", "path", "expected"),
    [
        ({}, "a", {"a": 9}),
        ({"a": 1, "b": 2}, "$.a", {"a": 9, "b": 2}),
        ({}, "$.a.b.c", {"a": {"b": {"c": 9}}}),
        ({"a": {"x": 1}}, "$.a.b", {"a": {"x": 1, "b": 9}}),
        ({"a": "text"}, "$.a.b", {"a": {"b": 9}}),
        ({"a": None}, "$.a.b", {"a": {"b": 9}}),
        ({"a": [1]}, "$.a.b", {"a": {"b": 9}}),
        ({"a": [1, 2]}, "$.a[0]", {"a": [9, 2]}),
        ({"a": [1, 2]}, "$.a[-1]", {"a": [1, 9]}),
        ({"a": [1, 2]}, "$.a[2]", {"a": [1, 2, 9]}),
        ({"a": [{"b": 1}]}, "$.a[0].b", {"a": [{"b": 9}]}),
        ({"a": [1]}, "$.a[1].b", {"a": [1, {"b": 9}]}),
        ({}, "$.a[0].b", {"a": [{"b": 9}]}),
        ({"a": {"x": 1}}, "$.a[0]", {"a": [9]}),
        ({}, "$['odd.key'].x", {"odd.key": {"x": 9}}),
    ],
)
def test_setting_makes_the_parents_it_needs(record: dict[str, Any], path: str, expected: dict[str, Any]) -> None:
    before = repr(record)

    assert compile_path(path).set(record, 9) == expected
    assert repr(record) == before


@pytest.mark.parametrize(("record", "path"), [({"a": [1]}, "$.a[2]"), ({"a": [1]}, "$.a[-2]"), ({}, "$.a[-1]")])
def test_setting_outside_an_array_is_refused(record: dict[str, Any], path: str) -> None:
    """Filling the gap would let `$.a[999999999]` take all memory there is."""
    with pytest.raises(PathError, match="lies outside the array"):
        compile_path(path).set(record, 9)


def test_setting_shares_what_it_did_not_touch() -> None:
    record = {"touched": {"left": {}}, "apart": {}}

    changed = compile_path("$.touched.right").set(record, 1)

    assert changed["apart"] is record["apart"]
    assert changed["touched"]["left"] is record["touched"]["left"]
    assert changed["touched"] is not record["touched"]


@pytest.mark.parametrize(
    ("record", "path", "expected"),
    [
        ({"a": 1, "b": 2}, "a", {"b": 2}),
        ({"a": {"b": 1, "c": 2}}, "$.a.b", {"a": {"c": 2}}),
        ({"a": {"b": None}}, "$.a.b", {"a": {}}),
        ({"a": [1, 2, 3]}, "$.a[1]", {"a": [1, 3]}),
        ({"a": [1, {"b": 2, "c": 3}]}, "$.a[-1].b", {"a": [1, {"c": 3}]}),
    ],
)
def test_removing_takes_the_value_away(record: dict[str, Any], path: str, expected: dict[str, Any]) -> None:
    before = repr(record)

    assert compile_path(path).remove(record) == expected
    assert repr(record) == before


@pytest.mark.parametrize("path", ["missing", "$.a.missing", "$.a.b.c", "$.list[5]", "$.list.a"])
def test_removing_nothing_changes_nothing(path: str) -> None:
    record = {"a": {"b": 1}, "list": [1]}

    assert compile_path(path).remove(record) is record
