"""Which destinations there are, packages that bring their own included."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any, cast

import pytest

from activities.destinations.base import DestinationContext, DestinationTarget
from activities.destinations.registry import create_destinations, destination_types
from activities.destinations.slack import SlackDestination
from activities.destinations.webhook import WebhookDestination

Install = Callable[[str, str], None]

PAGER = """
    from activities.destinations.base import Destination

    class Pager(Destination):
        integration_type = "pager"

        async def deliver(self, target, record, idempotency_key):
            pass
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts packages on the path that each register one object under our group, as an installer leaves them."""
    monkeypatch.syspath_prepend(tmp_path)
    installed: list[str] = []

    def add(reference: str, source: str) -> None:
        name = reference.partition(":")[0]
        installed.append(name)
        (tmp_path / f"{name}.py").write_text(dedent(source))
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[datanadhi.destinations]\n{name} = {reference}\n")
        importlib.invalidate_caches()

    yield add
    for name in installed:
        sys.modules.pop(name, None)


@pytest.fixture
def context() -> DestinationContext:
    """One whose session is never used."""
    return DestinationContext(session=cast("Any", SimpleNamespace(closed=False)))


def test_slack_and_webhook_are_built_in() -> None:
    assert dict(destination_types()) == {"slack": SlackDestination, "webhook": WebhookDestination}


def test_destinations_are_made_under_their_types(context: DestinationContext) -> None:
    destinations = create_destinations(context)
    assert {name: type(made) for name, made in destinations.items()} == destination_types()


def test_slack_keeps_the_order_of_a_batch_and_webhooks_do_not_wait_for_one_another() -> None:
    assert SlackDestination.concurrency == 1
    assert WebhookDestination.concurrency == 16


def test_a_package_brings_a_destination(install: Install, context: DestinationContext) -> None:
    install("pager_package:Pager", PAGER)
    assert sorted(create_destinations(context)) == ["pager", "slack", "webhook"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "cannot be loaded"),
        ("raise SystemError('at import')", "cannot be loaded"),
        ("Other = 1", "cannot be loaded"),
        ("Broken = 1", "is no destination"),
        ("class Broken: integration_type = 'broken'", "is no destination"),
        ("from activities.destinations.base import Destination as Broken", "is no destination"),
        (PAGER.replace("Pager", "Broken").replace('integration_type = "pager"', "pass"), "names no integration type"),
        (PAGER.replace("Pager", "Broken").replace("pager", "slack"), "integration type slack is taken"),
    ],
    ids=["import", "raises", "absent", "number", "other class", "abstract", "nameless", "shadows a built-in"],
)
def test_a_broken_package_is_logged_and_left_out(
    install: Install, caplog: pytest.LogCaptureFixture, source: str, reason: str
) -> None:
    install("broken_package:Broken", source)
    assert dict(destination_types()) == {"slack": SlackDestination, "webhook": WebhookDestination}
    assert "Destination broken_package (broken_package:Broken) is left out" in caplog.text
    assert reason in caplog.text


def test_the_repr_of_a_target_shows_neither_credentials_nor_parameters() -> None:
    target = DestinationTarget(
        target_id="t-1", name="alerts", parameters={"headers": "planted-1"}, credentials={"token": "planted-2"}
    )
    assert repr(target) == "DestinationTarget(target_id='t-1', name='alerts')"
