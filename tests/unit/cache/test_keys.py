"""Keys: what they are made of, and which identifiers never become part of one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import keys
from cache.keys import Family, InvalidIdentifierError

HOSTILE = [
    "*",
    "1*",
    "a:b",
    "[ab]",
    "a?",
    "^a",
    "a\\b",
    "{a}b",  # in a Cluster, the slot would be that of a
    "",
    " ",
    "a b",
    "a\n",
    "a\r\nFLUSHALL",
    "\x00",
    "\x7f",
    "\u0430cme",  # a Cyrillic letter that looks like the Latin one
    "acme\u200b",  # a space of no width
    "\uff11",  # a full-width digit
    "\ud800",  # half a character
    "x" * 10_240,
]

FUNCTIONS: list[tuple[Callable[..., str], int]] = [
    (keys.organisation, 1),
    (keys.organisation_secret, 1),
    (keys.project, 2),
    (keys.project_secret, 2),
    (keys.pipelines_by_code, 2),
    (keys.pipeline, 3),
    (keys.pipeline_by_code, 3),
    (keys.workflow, 3),
    (keys.connector, 3),
    (keys.decrypted_connector, 3),
    (keys.target, 4),
]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(("function", "count"), FUNCTIONS)
def test_a_hostile_identifier_is_refused_at_every_place(function: Callable[..., str], count: int, hostile: str) -> None:
    for place in range(count):
        identifiers = ["1"] * count
        identifiers[place] = hostile
        with pytest.raises(InvalidIdentifierError):
            function(*identifiers)


@pytest.mark.parametrize("not_a_string", [None, 1, 1.0, True, b"1", ["1"], {"$ne": ""}, ("1",)])
@pytest.mark.parametrize(("function", "count"), FUNCTIONS)
def test_what_is_no_string_is_refused_and_no_filter_gets_through(
    function: Callable[..., str], count: int, not_a_string: object
) -> None:
    with pytest.raises(InvalidIdentifierError, match="must be a string"):
        function(*["1"] * (count - 1), not_a_string)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_message_is_short_printable_ascii(hostile: str) -> None:
    with pytest.raises(InvalidIdentifierError) as refusal:
        keys.organisation(hostile)
    message = str(refusal.value)
    assert len(message) < 500
    assert message.isascii()
    assert message.isprintable()


@pytest.mark.parametrize("refused", ["sk-secret key", "sk-secret:key", "sk-secret" * 1000, b"sk-secret", None, ""])
def test_a_refused_api_key_does_not_show_in_the_message(refused: object) -> None:
    with pytest.raises(InvalidIdentifierError) as refusal:
        keys.api_key(refused)
    assert "sk-secret" not in str(refusal.value)


@given(st.text(alphabet="ABCxyz0189-_.~!$%&'()+,;<=>@/|\"#`", min_size=1, max_size=256))
def test_other_printable_ascii_is_taken_as_it_is(identifier: str) -> None:
    assert keys.organisation(identifier) == f"datanadhiserver:org:{identifier}"


@given(st.tuples(st.text(max_size=3), st.text(max_size=3)), st.tuples(st.text(max_size=3), st.text(max_size=3)))
def test_two_different_pairs_of_identifiers_never_share_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    try:
        same = keys.project(*one) == keys.project(*other)
    except InvalidIdentifierError:
        return
    assert same == (one == other)


def test_a_lease_lies_in_the_slot_of_its_key_and_beside_every_level() -> None:
    """Redis Cluster hashes what stands between the braces, which is the whole key."""
    key = keys.pipeline("1", "2", "3")
    assert keys.lease(key) == f"{{{key}}}:lease"
    assert keys.lease(key).startswith(keys.leases_under(keys.project("1", "2")))
    assert not keys.lease(keys.project("10", "2")).startswith(keys.leases_under(keys.organisation("1")))


def test_no_family_lives_longer_than_an_hour() -> None:
    assert {family.ttl_seconds for family in Family} == {300, 1800, 3600}
