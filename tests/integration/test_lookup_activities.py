"""The look-ups that anybody's workflow may call as activities."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.contracts import ConnectorId, PipelineId, TargetId
from activities.errors import InvalidConfigurationError, NotFoundError
from activities.lookups import Lookups
from activities.metrics import WorkerMetrics
from cache.crypto import unseal
from tests.harness import Platform
from workers.process import open_dependencies
from workers.settings import Settings


@pytest.fixture
async def lookups(settings: Settings) -> AsyncIterator[Lookups]:
    async with open_dependencies(settings, WorkerMetrics()) as dependencies:
        yield Lookups(dependencies.catalog)


@pytest.fixture
def pipeline(stored: Platform) -> PipelineId:
    ids = stored.identifiers
    return PipelineId(organisation_id=ids["organisationId"], project_id=ids["projectId"], pipeline_id=ids["pipelineId"])


async def call(activity: Any, argument: Any) -> Any:
    return await ActivityEnvironment().run(activity, argument)


async def test_a_pipelines_configuration_says_where_it_starts(lookups: Lookups, pipeline: PipelineId) -> None:
    config = await call(lookups.fetch_pipeline_config, pipeline)
    assert (config.pipeline_id, config.start_node_id, config.name) == (pipeline.pipeline_id, "a1", "orders")


async def test_a_pipelines_nodes_are_given_as_stored(lookups: Lookups, pipeline: PipelineId, stored: Platform) -> None:
    config = await call(lookups.fetch_workflow_config, pipeline)
    assert config.nodes == {node["nodeId"]: node["nodeConfig"] for node in stored.data["collections"]["PipelineNodes"]}


async def test_a_target_names_its_connector_and_parameters(
    lookups: Lookups, pipeline: PipelineId, stored: Platform
) -> None:
    document = stored.data["collections"]["IntegrationTargets"][0]
    target = await call(
        lookups.fetch_integration_target,
        TargetId(
            organisation_id=pipeline.organisation_id,
            project_id=pipeline.project_id,
            pipeline_id=pipeline.pipeline_id,
            target_id=document["targetId"],
        ),
    )
    assert target.connector_id == document["connectorId"]
    assert target.parameters == document["destinationParams"]


async def test_a_connector_is_given_with_its_credentials_sealed(
    lookups: Lookups, pipeline: PipelineId, stored: Platform
) -> None:
    """A workflow can carry them to an activity, which has SEC_DB; it cannot read them."""
    document = stored.data["collections"]["IntegrationConnectors"][0]
    connector = await call(
        lookups.fetch_integration_connector,
        ConnectorId(
            organisation_id=pipeline.organisation_id,
            project_id=pipeline.project_id,
            connector_id=document["connectorId"],
        ),
    )
    assert connector.integration_type == "slack"
    assert "xoxb" not in repr(connector)
    assert "xoxb-held-out" in unseal(connector.sealed_credentials, stored.data["env"]["SEC_DB"])


async def test_what_does_not_exist_is_named(lookups: Lookups, pipeline: PipelineId) -> None:
    other = PipelineId(organisation_id=pipeline.organisation_id, project_id=pipeline.project_id, pipeline_id="gone")
    for activity in (lookups.fetch_pipeline_config, lookups.fetch_workflow_config):
        with pytest.raises(NotFoundError, match="gone"):
            await call(activity, other)
    with pytest.raises(NotFoundError, match="nowhere"):
        await call(
            lookups.fetch_integration_connector,
            ConnectorId(organisation_id="o", project_id="p", connector_id="nowhere"),
        )


async def test_a_target_without_a_connector_cannot_be_used(
    lookups: Lookups, pipeline: PipelineId, stored: Platform
) -> None:
    target_id = stored.data["collections"]["IntegrationTargets"][0]["targetId"]
    await stored.update("IntegrationTargets", {"targetId": target_id}, {"connectorId": None})
    with pytest.raises(InvalidConfigurationError, match="names no connector"):
        await call(
            lookups.fetch_integration_target,
            TargetId(
                organisation_id=pipeline.organisation_id,
                project_id=pipeline.project_id,
                pipeline_id=pipeline.pipeline_id,
                target_id=target_id,
            ),
        )
