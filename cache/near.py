"""What this process remembers by itself: a bounded map of key to bytes, each for its time to live."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_ENTRIES = 10_000
MOST_BYTES = 64 * 1024 * 1024


class NearCache:
    """Key to bytes with a time to live, the longest unused put out first.

    Args:
        most_entries: How many entries it holds.
        most_bytes: How many bytes its keys and values may have together.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        *,
        most_entries: int = MOST_ENTRIES,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    @property
    def total_bytes(self) -> int:
        """How many bytes its keys and values have together."""
        return self._bytes

    def get(self, key: str) -> bytes | None:
        """The value of `key`, the very object that was put; None if there is none or its time is up."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            self.discard(key)
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: str, value: bytes, ttl_seconds: float) -> None:
        """Remember `value` for `ttl_seconds`; not at all if that is none or the value alone is too large."""
        self.discard(key)
        size = len(key) + len(value)
        if ttl_seconds <= 0 or size > self._most_bytes:
            return
        self._entries[key] = (self._clock() + ttl_seconds, value)
        self._bytes += size
        while len(self._entries) > self._most_entries or self._bytes > self._most_bytes:
            self.discard(next(iter(self._entries)))

    def discard(self, key: str) -> None:
        """Forget `key`."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(key) + len(entry[1])

    def discard_under(self, level: str) -> None:
        """Forget the key `level` and all below it (`level:...`); one that merely begins alike stays."""
        below = f"{level}:"
        for key in [key for key in self._entries if key == level or key.startswith(below)]:
            self.discard(key)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._bytes = 0
