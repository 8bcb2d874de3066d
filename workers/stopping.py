"""SIGTERM and SIGINT, noted from the first moment: a worker that is still importing its clients exits 0 as well."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Notes that the process was told to stop, for the length of a `with` block in the main thread.

    Nothing is raised where the signal finds the process: amid an import that could be lost, or break it.

    Attributes:
        told: Whether it was told to.
    """

    def __init__(self) -> None:
        self.told = False
        self._call: Callable[[], object] | None = None

    @contextmanager
    def noted(self) -> Iterator[StopSignals]:
        """Note the signals from now on; afterwards they do what they did before."""
        before = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def calling(self, call: Callable[[], object]) -> Iterator[None]:
        """Call this when a signal comes, and at once if one came before.

        Args:
            call: May run between any two steps of the program, so it does no more than `call_soon_threadsafe` does.
        """
        self._call = call
        if self.told:
            call()
        try:
            yield
        finally:
            self._call = None

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.told = True
        if self._call is not None:
            self._call()
