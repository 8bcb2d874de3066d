"""How far a delivery has come: what its heartbeats and its errors tell, to the next attempt and to the workflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from activities.contracts import DeliverResult, ErrorDetails, RejectedItem

PENDING, DELIVERED, REJECTED = b"."[0], b"d"[0], b"r"[0]
PARTS = 2
"""Values that a progress is told in: the items' states, and why some were rejected."""


@dataclass(slots=True)
class DeliveryProgress:
    """Which items are done, a letter an item (`.` pending, `d` delivered, `r` rejected), and why some were rejected."""

    states: bytearray
    rejected: list[RejectedItem] = field(default_factory=list)

    @classmethod
    def read(cls, details: Sequence[Any], count: int) -> DeliveryProgress:
        """The progress that was told in `details`, else none, for so many items."""
        if len(details) != PARTS or not isinstance(details[0], str) or len(details[0]) != count:
            return cls(bytearray([PENDING]) * count)
        states, rejected = details
        items = [RejectedItem(position=r["position"], error=ErrorDetails(**r["error"])) for r in rejected]
        return cls(bytearray(states, "ascii"), items)

    def tell(self) -> tuple[str, list[dict[str, Any]]]:
        """The progress as JSON values; nothing of a record is in them."""
        return self.states.decode("ascii"), [asdict(item) for item in self.rejected]

    @property
    def finished(self) -> bool:
        """Whether nothing is pending."""
        return PENDING not in self.states

    def pending(self) -> list[int]:
        """Positions of the items that are not done."""
        return [position for position, state in enumerate(self.states) if state == PENDING]

    def deliver(self, position: int) -> None:
        """Note that an item was delivered."""
        self.states[position] = DELIVERED

    def reject(self, position: int, error: ErrorDetails) -> None:
        """Note that an item was rejected for good."""
        self.states[position] = REJECTED
        self.rejected.append(RejectedItem(position=position, error=error))

    def result(self) -> DeliverResult:
        """What the activity returns."""
        in_order = sorted(self.rejected, key=lambda item: item.position)
        return DeliverResult(delivered=self.states.count(DELIVERED), rejected=in_order)
