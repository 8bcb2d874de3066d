"""Pauses between attempts: each longer than the one before, short again after a success, and jittered."""

from __future__ import annotations

import random


class Pauses:
    """How long to wait before the next attempt.

    Args:
        first: Seconds, after a first failure.
        longest: The most it grows to, doubling with each.
    """

    def __init__(self, *, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._seconds = first

    def next(self) -> float:
        """Seconds to wait after a failure."""
        seconds = self._seconds
        self._seconds = min(seconds * 2, self._longest)
        return jittered(seconds)

    def reset(self) -> None:
        """Something succeeded."""
        self._seconds = self._first


def jittered(seconds: float) -> float:
    """A little less, so that a fleet does not act as one."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 jitter is not cryptography
