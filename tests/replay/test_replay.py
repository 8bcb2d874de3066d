"""Workflows that are under way survive a new version: saved histories replay with today's code.

A failure here means that the workflow's commands have changed. Where that is meant, workflows of the version before
must be let drain, or the change be guarded with `workflow.patched`; then record anew:

    python tests/replay/record.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

from activities.data_converter import DATA_CONVERTER
from workflows.main import MainWorkflow

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


def replayer(*, sandboxed: bool) -> Replayer:
    runner = {} if sandboxed else {"workflow_runner": UnsandboxedWorkflowRunner()}
    return Replayer(workflows=[MainWorkflow], data_converter=DATA_CONVERTER, **runner)


@pytest.mark.parametrize("sandboxed", [True, False], ids=["sandboxed", "as the worker runs it"])
@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_a_saved_history_replays(path: Path, sandboxed: bool) -> None:
    """In the sandbox, too, which would notice anything that is not deterministic."""
    history = WorkflowHistory.from_json(path.stem, path.read_text())
    await replayer(sandboxed=sandboxed).replay_workflow(history)


async def test_a_history_that_does_not_fit_is_noticed() -> None:
    """So that the test above can fail: a history without its first marker asks for other commands."""
    path = next(path for path in HISTORIES if path.stem == "delivered")
    history = WorkflowHistory.from_json(path.stem, path.read_text())
    kept = [event for event in history.events if not event.HasField("marker_recorded_event_attributes")]
    for number, event in enumerate(kept, 1):
        event.event_id = number
    with pytest.raises(NondeterminismError):
        await replayer(sandboxed=False).replay_workflow(WorkflowHistory(path.stem, kept))


def test_there_are_histories_of_every_outcome() -> None:
    assert {path.stem for path in HISTORIES} == {"batch", "delivered", "failing", "refused"}
