"""Activities that look things up through the cache: pipeline, workflow nodes, target, connector."""

from __future__ import annotations

from temporalio import activity

from activities.contracts import (
    ConnectorConfig,
    ConnectorId,
    PipelineConfig,
    PipelineId,
    TargetConfig,
    TargetId,
    WorkflowConfig,
)
from activities.errors import InvalidConfigurationError, NotFoundError
from cache.catalog import Catalog


class Lookups:
    """Look-ups for workflows. Nothing they return is secret: credentials stay sealed."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @activity.defn
    async def fetch_pipeline_config(self, pipeline: PipelineId) -> PipelineConfig:
        """Where an active pipeline starts.

        Raises:
            NotFoundError: There is no such pipeline.
            InvalidConfigurationError: It is not active or has no start node.
        """
        document = await self._catalog.pipeline(pipeline.organisation_id, pipeline.project_id, pipeline.pipeline_id)
        if document is None:
            raise NotFoundError(f"pipeline {pipeline.pipeline_id} does not exist")
        if not document.get("active"):
            raise InvalidConfigurationError(f"pipeline {pipeline.pipeline_id} is not active")
        start = document.get("startNodeId")
        if not isinstance(start, str) or not start:
            raise InvalidConfigurationError(f"pipeline {pipeline.pipeline_id} has no start node")
        return PipelineConfig(
            pipeline_id=pipeline.pipeline_id, start_node_id=start, name=_text(document.get("pipelineName"))
        )

    @activity.defn
    async def fetch_workflow_config(self, pipeline: PipelineId) -> WorkflowConfig:
        """A pipeline's nodes as stored.

        Raises:
            NotFoundError: The pipeline has no nodes.
        """
        nodes = await self._catalog.workflow(pipeline.organisation_id, pipeline.project_id, pipeline.pipeline_id)
        if not nodes:
            raise NotFoundError(f"pipeline {pipeline.pipeline_id} has no nodes")
        return WorkflowConfig(nodes=nodes)

    @activity.defn
    async def fetch_integration_target(self, target: TargetId) -> TargetConfig:
        """A target of a pipeline.

        Raises:
            NotFoundError: The pipeline has no such target.
            InvalidConfigurationError: It names no connector, or its parameters are no object.
        """
        return await find_target(self._catalog, target)

    @activity.defn
    async def fetch_integration_connector(self, connector: ConnectorId) -> ConnectorConfig:
        """A connector with its credentials sealed, checked to be such that they can be opened.

        Raises:
            NotFoundError: The project has no such connector.
            InvalidConfigurationError: Its credentials cannot be opened.
        """
        document = await self._catalog.connector(
            connector.organisation_id, connector.project_id, connector.connector_id
        )
        if document is None:
            raise NotFoundError(f"connector {connector.connector_id} does not exist")
        return ConnectorConfig(
            connector_id=connector.connector_id,
            name=_text(document.get("connectorName")),
            integration_type=_text(document.get("integrationType")),
            sealed_credentials=_text(document.get("encryptedCredentials")),
        )


async def find_target(catalog: Catalog, target: TargetId) -> TargetConfig:
    """A target of a pipeline; raises as `Lookups.fetch_integration_target` says."""
    document = await catalog.target(target.organisation_id, target.project_id, target.pipeline_id, target.target_id)
    if document is None:
        raise NotFoundError(f"target {target.target_id} of pipeline {target.pipeline_id} does not exist")
    connector_id = document.get("connectorId")
    if not isinstance(connector_id, str) or not connector_id:
        raise InvalidConfigurationError(f"target {target.target_id} names no connector")
    parameters = document.get("destinationParams") or {}
    if not isinstance(parameters, dict):
        raise InvalidConfigurationError(f"the parameters of target {target.target_id} are no object")
    return TargetConfig(
        target_id=target.target_id,
        connector_id=connector_id,
        name=_text(document.get("destinationName")),
        parameters=parameters,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
