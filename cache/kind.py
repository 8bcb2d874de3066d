"""What has to be known about a family of keys to read it through the cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cache.keys import Family
from cache.sealing import Sealer

Identifiers = tuple[str, ...]

Value = TypeVar("Value")


def _always(_value: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[Value]):
    """How a family of keys is read.

    Attributes:
        family: Which.
        load: Reads the value's bytes from MongoDB, given the identifiers; None if it is not there. Never empty.
        parse: The value, new at every call, given its bytes and identifiers; raises ValueError if they are not it.
        settled: Whether a value found in Redis may be believed as it is; otherwise MongoDB is asked.
        ttl_seconds: How long Redis keeps it, given its bytes.
        may_be_stale: Whether the last known value serves while MongoDB is away.
        sealer: What its values are sealed with in Redis; None: they are no secret and lie there as they are.
    """

    family: Family
    load: Callable[..., Awaitable[bytes | None]]
    parse: Callable[[bytes, Identifiers], Value]
    settled: Callable[[Value], bool] = _always
    ttl_seconds: Callable[[bytes], int]
    may_be_stale: bool = True
    sealer: Sealer | None = None

    def to_store(self, key: str, content: bytes) -> bytes:
        """What Redis is given to keep at `key`."""
        return content if self.sealer is None else self.sealer.seal(key, content)

    def believed(self, key: str, stored: bytes, identifiers: Identifiers) -> tuple[bytes, Value] | None:
        """The bytes and the value, given what Redis keeps at `key`; None if that is not it or may not be believed."""
        try:
            content = stored if self.sealer is None else self.sealer.open(key, stored)
            value = self.parse(content, identifiers)
        except ValueError:
            return None
        return (content, value) if self.settled(value) else None
