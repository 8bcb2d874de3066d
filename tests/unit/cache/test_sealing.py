"""Sealing of what is secret in Redis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.sealing import PREFIX, Sealer, SealError

KEY = "datanadhiserver:org:o:secret"
VALUE = b'{"creds":{"slackBotToken":"xoxb-planted"}}'


@given(st.binary(), st.text(min_size=1))
def test_what_is_sealed_opens_under_the_same_key_and_place(value: bytes, secret: str) -> None:
    sealer = Sealer([secret])
    assert sealer.open(KEY, sealer.seal(KEY, value)) == value


def test_a_sealed_value_shows_nothing_of_what_is_in_it_and_is_never_the_same_twice() -> None:
    sealer = Sealer(["one"])
    first, second = sealer.seal(KEY, VALUE), sealer.seal(KEY, VALUE)
    assert first.startswith(PREFIX)
    assert b"xoxb" not in first
    assert first != second


def test_a_value_copied_to_another_key_does_not_open() -> None:
    sealer = Sealer(["one"])
    with pytest.raises(SealError, match="another key of Redis"):
        sealer.open("datanadhiserver:org:p:secret", sealer.seal(KEY, VALUE))


@pytest.mark.parametrize("place", [len(PREFIX) + 10, -5])
def test_a_value_that_was_altered_does_not_open(place: int) -> None:
    sealed = bytearray(Sealer(["one"]).seal(KEY, VALUE))
    sealed[place] = ord("A") if sealed[place] != ord("A") else ord("B")
    with pytest.raises(SealError):
        Sealer(["one"]).open(KEY, bytes(sealed))


@pytest.mark.parametrize("rubbish", [PREFIX, PREFIX + b"::", PREFIX + b"x" * 20, PREFIX + b"\xff:\xff"])
def test_rubbish_that_begins_as_a_sealed_value_does_not_open(rubbish: bytes) -> None:
    with pytest.raises(SealError):
        Sealer(["one"]).open(KEY, rubbish)


def test_keys_rotate_old_values_open_and_new_ones_are_sealed_with_the_newest() -> None:
    old, rotated, new = Sealer(["one"]), Sealer(["two", "one"]), Sealer(["two"])
    assert rotated.open(KEY, old.seal(KEY, VALUE)) == VALUE
    assert new.open(KEY, rotated.seal(KEY, VALUE)) == VALUE
    with pytest.raises(SealError, match="not among"):
        new.open(KEY, old.seal(KEY, VALUE))


def test_an_unsealed_value_is_read_as_it_is_with_and_without_keys() -> None:
    assert Sealer(["one"]).open(KEY, VALUE) == VALUE
    assert Sealer().open(KEY, VALUE) == VALUE


def test_without_keys_nothing_is_sealed_and_nothing_sealed_opens() -> None:
    assert not Sealer().active
    assert Sealer().seal(KEY, VALUE) == VALUE
    with pytest.raises(SealError):
        Sealer().open(KEY, Sealer(["one"]).seal(KEY, VALUE))


def test_what_does_not_open_is_logged_once_for_each_reason_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    sealer = Sealer(["one"])
    for _ in range(3):
        for stored in (
            PREFIX + b"planted-id:planted",
            Sealer(["planted"]).seal(KEY, VALUE),
            sealer.seal("other", VALUE),
        ):
            with pytest.raises(SealError):
                sealer.open(KEY, stored)
    unknown, altered = [record.getMessage() for record in caplog.records]
    assert "CACHE_SECRET_KEY" in unknown
    assert "altered" in altered
    assert KEY in unknown
    assert KEY in altered
    assert "planted" not in caplog.text


def test_a_repr_shows_no_key() -> None:
    assert "hunter2" not in repr(Sealer(["hunter2"]))
