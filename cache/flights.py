"""One load of a key at a time, however many wait for it: callers come and go, it flies on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Name = tuple[str, bool]
"""The key, and whether it is read anew whatever is cached."""

Flight = asyncio.Task[bytes | None]


class Flights:
    """The loads that are under way.

    Attributes:
        airborne: All of them, also those that nobody joins any more.
    """

    def __init__(self) -> None:
        self.airborne: set[Flight] = set()
        self._open: dict[Name, Flight] = {}

    def __contains__(self, name: Name) -> bool:
        return name in self._open

    def join(self, name: Name, load: Callable[[], Coroutine[Any, Any, bytes | None]]) -> Flight:
        """The load that is under way, or a new one. Shield it when it is awaited: it is other callers', too."""
        flight = self._open.get(name)
        if flight is None:
            flight = self._open[name] = asyncio.create_task(load())
            self.airborne.add(flight)
            flight.add_done_callback(lambda done: self._over(name, done))
        return flight

    def forget(self, key: str) -> None:
        """Let nobody join the loads of `key` that are under way: what they bring may be old."""
        for refresh in (False, True):
            self._open.pop((key, refresh), None)

    def forget_under(self, level: str) -> None:
        """The same for the key `level` and all below it (`level:...`)."""
        for key in {key for key, _ in self._open if key == level or key.startswith(f"{level}:")}:
            self.forget(key)

    async def aclose(self) -> None:
        """End the loads that are under way."""
        for flight in self.airborne:
            flight.cancel()
        await asyncio.gather(*self.airborne, return_exceptions=True)

    def _over(self, name: Name, flight: Flight) -> None:
        self.airborne.discard(flight)
        if self._open.get(name) is flight:
            del self._open[name]
        if not flight.cancelled():
            flight.exception()  # looked at, also where every caller has gone: asyncio complains otherwise
