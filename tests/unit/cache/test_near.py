"""The near cache: bounded in time, number and size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.near import NearCache


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_value_lives_for_its_time_and_not_longer(clock: Clock) -> None:
    near = NearCache(clock=clock)
    near.put("key", b"value", 2.0)
    clock.now += 1.999
    assert near.get("key") == b"value"
    clock.now += 0.001
    assert near.get("key") is None
    assert (len(near), near.total_bytes) == (0, 0)


def test_the_very_object_that_was_put_comes_back(clock: Clock) -> None:
    near = NearCache(clock=clock)
    value = bytes(1000)
    near.put("key", value, 1.0)
    assert near.get("key") is value
    assert near.get("key") is value


def test_a_time_of_zero_remembers_nothing_and_forgets_what_was_there() -> None:
    near = NearCache()
    near.put("key", b"old", 1.0)
    near.put("key", b"new", 0)
    assert near.get("key") is None


def test_the_longest_unused_goes_first() -> None:
    near = NearCache(most_entries=2)
    near.put("a", b"1", 9.0)
    near.put("b", b"2", 9.0)
    near.get("a")
    near.put("c", b"3", 9.0)
    assert [key for key in "abc" if near.get(key)] == ["a", "c"]


def test_a_value_too_large_for_it_puts_nothing_else_out() -> None:
    near = NearCache(most_bytes=100)
    near.put("small", b"1", 9.0)
    near.put("large", bytes(100), 9.0)
    assert near.get("small") == b"1"
    assert near.get("large") is None


def test_what_merely_begins_alike_is_not_under_a_level() -> None:
    near = NearCache()
    for key in ("org:1", "org:1:prj:2", "org:10", "org:10:prj:2", "org:1x"):
        near.put(key, b"value", 9.0)
    near.discard_under("org:1")
    assert [key for key in ("org:1", "org:1:prj:2", "org:10", "org:10:prj:2", "org:1x") if near.get(key)] == [
        "org:10",
        "org:10:prj:2",
        "org:1x",
    ]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.binary(max_size=60), st.floats(0, 3), st.booleans())))
def test_it_never_holds_more_than_it_may_and_counts_right(
    steps: list[tuple[str, bytes, float, bool]],
) -> None:
    clock = Clock()
    near = NearCache(most_entries=5, most_bytes=150, clock=clock)
    for key, value, seconds, put in steps:
        if put:
            near.put(key, value, seconds)
        else:
            near.discard(key)
        clock.now += seconds / 2
        assert len(near) <= 5
        assert near.total_bytes <= 150
    held = [near._entries[key] for key in near._entries]
    assert near.total_bytes == sum(1 + len(value) for _, value in held)
    near.clear()
    assert (len(near), near.total_bytes) == (0, 0)
