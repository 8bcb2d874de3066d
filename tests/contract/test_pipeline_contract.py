"""The engine keeps the contract: the platform's own nodes and template, and cases kept as data for later engines."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from activities.pipeline import compile_pipeline, compile_template

DATA = Path(__file__).parent.parent / "data"
CASES: dict[str, Any] = json.loads((DATA / "pipeline_cases.json").read_text())


@pytest.fixture(scope="module")
def pipelines(platform: dict[str, Any]) -> dict[str, Any]:
    """Nodes by name of the pipeline; `contract` is what the platform's servers cached."""
    cached = [entry["value"] for key, entry in platform["redis"].items() if key.endswith(":workflow")]
    return {**CASES["pipelines"], "contract": json.loads(cached[0])}


def test_cached_and_stored_nodes_are_the_same(platform: dict[str, Any], pipelines: dict[str, Any]) -> None:
    stored = {node["nodeId"]: node["nodeConfig"] for node in platform["collections"]["PipelineNodes"]}

    assert pipelines["contract"] == stored


def test_the_platforms_pipeline_is_sound(platform: dict[str, Any], pipelines: dict[str, Any]) -> None:
    start_node_id = platform["collections"]["Pipelines"][0]["startNodeId"]

    compile_pipeline(json.dumps(pipelines["contract"]).encode()).check(start_node_id)


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["name"])
def test_a_record_leads_to_what_the_case_says(case: dict[str, Any], pipelines: dict[str, Any]) -> None:
    pipeline = compile_pipeline(json.dumps(pipelines[case["pipeline"]]).encode())

    result = asdict(pipeline.run(case["record"], case["start"], keep_outputs=True))

    for part in ("deliveries", "failures", "outputs"):
        # As text: 1 is not 1.0 and not true, and the order of nodes and fields counts.
        assert json.dumps(result[part]) == json.dumps(case[part])


@pytest.mark.parametrize("case", CASES["templates"], ids=lambda case: case["name"])
def test_a_template_renders_to_what_the_case_says(case: dict[str, Any]) -> None:
    assert compile_template(case["template"]).render(case["record"]) == case["text"]


def test_the_slack_template_of_the_platform_renders_the_alert(
    platform: dict[str, Any], pipelines: dict[str, Any]
) -> None:
    """From a record through the nodes to the text that Slack gets."""
    templates = {
        target["targetId"]: target["destinationParams"].get("template")
        for target in platform["collections"]["IntegrationTargets"]
    }
    record = {"level": "ERROR", "message": "disk full", "attempt": 3, "password": "hunter2"}

    (delivery,) = compile_pipeline(json.dumps(pipelines["contract"]).encode()).run(record, "a1").deliveries

    text = compile_template(templates[delivery.target_id]).render(delivery.record)
    assert text == "[ERROR] disk full sev=high pw={{ $.password }} lit=$5"
