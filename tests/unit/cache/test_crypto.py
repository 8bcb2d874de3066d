"""Sealing and opening: what comes back, and what an error never tells."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.crypto import DecryptionError, seal, unseal


@given(st.text(), st.text())
def test_what_was_sealed_opens_again(plaintext: str, secret: str) -> None:
    assert unseal(seal(plaintext, secret), secret) == plaintext


def test_sealing_twice_gives_two_different_texts() -> None:
    """The iv is fresh: equal credentials of two connectors do not show as equal."""
    assert seal("same", "secret") != seal("same", "secret")


@given(st.integers(min_value=0, max_value=33), st.integers(min_value=1, max_value=255))
def test_one_altered_byte_is_noticed(place: int, change: int) -> None:
    content = bytearray(b64decode(seal("secret", "key")))
    content[place] ^= change
    with pytest.raises(DecryptionError):
        unseal(b64encode(content).decode(), "key")


@pytest.mark.parametrize("sealed", ["", "not base64!", "QUJD", b64encode(bytes(27)).decode(), None, 7, "größe"])
def test_what_is_not_sealed_is_refused(sealed: object) -> None:
    with pytest.raises(DecryptionError):
        unseal(sealed, "secret")  # type: ignore[arg-type]


def test_errors_hold_neither_secret_nor_content() -> None:
    sealed = seal("top-content", "top-secret")
    with pytest.raises(DecryptionError) as refusal:
        unseal(sealed, "top-other")
    error: BaseException | None = refusal.value
    while error is not None:
        assert "top-" not in repr(error)
        assert sealed not in repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
