"""Which destinations there are: the built-in ones, one line each, and those that installed packages bring."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from activities.destinations.base import Destination, DestinationContext
from activities.destinations.slack import SlackDestination
from activities.destinations.webhook import WebhookDestination

BUILT_IN: tuple[type[Destination], ...] = (
    SlackDestination,
    WebhookDestination,
)
ENTRY_POINT_GROUP = "datanadhi.destinations"

logger = logging.getLogger(__name__)


def destination_types() -> Mapping[str, type[Destination]]:
    """Every destination's class by integration type.

    A package brings its own under the entry point group `datanadhi.destinations`. One that cannot be loaded, is no
    destination, or claims an integration type that is taken is logged and left out.
    """
    types = {built_in.integration_type: built_in for built_in in BUILT_IN}
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        plug_in = _load(entry_point)
        if plug_in is None:
            continue
        if plug_in.integration_type in types:
            _left_out(entry_point, f"integration type {plug_in.integration_type} is taken")
            continue
        types[plug_in.integration_type] = plug_in
    return types


def create_destinations(context: DestinationContext) -> dict[str, Destination]:
    """Every destination, ready to deliver, by integration type."""
    return {integration_type: kind(context) for integration_type, kind in destination_types().items()}


def _load(entry_point: EntryPoint) -> type[Destination] | None:
    try:
        loaded = entry_point.load()
    except Exception:  # noqa: BLE001 - importing somebody's package may raise anything, and must not stop the worker
        _left_out(entry_point, "it cannot be loaded", exc_info=True)
        return None
    if not (isinstance(loaded, type) and issubclass(loaded, Destination)) or inspect.isabstract(loaded):
        _left_out(entry_point, "it is no destination that can be made")
        return None
    if not isinstance(getattr(loaded, "integration_type", None), str):
        _left_out(entry_point, "it names no integration type")
        return None
    return loaded


def _left_out(entry_point: EntryPoint, reason: str, *, exc_info: bool = False) -> None:
    logger.warning(
        "Destination %s (%s) is left out: %s", entry_point.name, entry_point.value, reason, exc_info=exc_info
    )
