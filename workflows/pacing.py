"""A bound on what one workflow task asks the server for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from temporalio import workflow

from workflows.policies import BYTES_PER_TASK, NEXT_TASK


@dataclass(slots=True)
class Pacing:
    """Spreads a message's activities over several workflow tasks where one would ask for too much.

    What a workflow task asks for goes to the server in one message. Beyond 4 MB the server ends the workflow.
    """

    _task: int = -1
    _asked: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask_for(self, size: int) -> None:
        """Return once an activity with `size` bytes of input may be asked for; one that is larger goes alone."""
        async with self._turn:
            while not self._has_room(size):
                await workflow.sleep(NEXT_TASK)

    def _has_room(self, size: int) -> bool:
        task = workflow.info().get_current_history_length()  # grows from one workflow task to the next
        if task != self._task:
            self._task, self._asked = task, 0
        if self._asked and self._asked + size > BYTES_PER_TASK:
            return False
        self._asked += size
        return True
