"""What crosses the workflow boundary: the inputs and outputs of every activity, as dataclasses of plain JSON values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]
"""A log record: a JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineId:
    """Which pipeline, of which project and organisation."""

    organisation_id: str
    project_id: str
    pipeline_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageId(PipelineId):
    """Which message of a pipeline."""

    message_id: str

    @property
    def pipeline(self) -> PipelineId:
        """The pipeline that the message belongs to."""
        return PipelineId(
            organisation_id=self.organisation_id, project_id=self.project_id, pipeline_id=self.pipeline_id
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetId(PipelineId):
    """Which target of a pipeline."""

    target_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorId:
    """Which connector of a project."""

    organisation_id: str
    project_id: str
    connector_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """An active pipeline: where it starts."""

    pipeline_id: str
    start_node_id: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowConfig:
    """A pipeline's nodes: `{nodeId: nodeConfig}`, as stored."""

    nodes: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetConfig:
    """A target of a pipeline: through which connector, with which parameters."""

    target_id: str
    connector_id: str
    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorConfig:
    """A connector with its credentials sealed: AES-256-GCM under SEC_DB, which no workflow has."""

    connector_id: str
    name: str
    integration_type: str
    sealed_credentials: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecordsInput:
    """Records to run through a pipeline.

    Attributes:
        start_node_id: The node that every record enters at.
        records: The records, each a JSON object or whatever was sent in its place.
        first_index: Position in the message of the first of them.
        keep_outputs: Whether the outputs of the nodes are wanted.
    """

    message: MessageId
    start_node_id: str
    records: list[Any]
    first_index: int = 0
    keep_outputs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetails:
    """What went wrong. `stack` holds code locations alone; `description` says what was being done."""

    type: str
    message: str
    stack: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryItem:
    """A record on its way to a target: which one of the message, from which end node, as it is by then."""

    record_index: int
    node_id: str
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDelivery:
    """All that one target is to get, in the order of the records."""

    target_id: str
    items: list[DeliveryItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFailure:
    """A record whose branch ended in failure at a node, with the input that the node had."""

    record_index: int
    node_id: str | None
    current_input: Any
    error: ErrorDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedRecords:
    """What became of the records: deliveries by target, failures, and the nodes' outputs where they were wanted.

    Attributes:
        processed: How many of the records, from the first on, this is about: so many as fit. At least one, where there
            was one; the caller asks again for the rest.
        node_outputs: `{nodeId: [output, ...]}`, or None where not wanted or beyond the limit.
        node_outputs_omitted: They were wanted and are beyond the limit.
    """

    processed: int
    deliveries: list[TargetDelivery] = field(default_factory=list)
    failures: list[NodeFailure] = field(default_factory=list)
    node_outputs: dict[str, list[Any]] | None = None
    node_outputs_omitted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverInput:
    """Records for one target."""

    message: MessageId
    delivery: TargetDelivery


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedItem:
    """An item of a delivery, by its position among them, that the destination refused for good."""

    position: int
    error: ErrorDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverResult:
    """How many items were delivered, and those that never will be."""

    delivered: int
    rejected: list[RejectedItem] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureReport:
    """A failure on its way to the failure store, under a key made of message, workflow, activity and timestamp.

    Attributes:
        workflow: Type of the workflow.
        activity: Name of the activity that failed.
        timestamp: When, ISO 8601 in UTC; unique among the message's failures, so that writing one twice writes one.
        original_input: What the workflow was given for this record.
        current_input: What the failing step was given, or None where it was the original input.
    """

    message: MessageId
    workflow: str
    activity: str
    timestamp: str
    original_input: Any
    current_input: Any
    error: ErrorDetails
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureReports:
    """Failures of one message, at least one, that are stored together, each as an object of its own."""

    reports: list[FailureReport]

    @property
    def message(self) -> MessageId:
        """Whose failures they are; what is logged about them names it."""
        return self.reports[0].message
