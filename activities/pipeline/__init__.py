"""The pipeline engine: pure functions from a record and its pipeline's nodes to deliveries and failures."""

from __future__ import annotations

from activities.pipeline.errors import (
    ComparisonError,
    ConditionError,
    InvalidNodeError,
    InvalidRecordError,
    LimitExceededError,
    PathError,
    PipelineError,
    PipelineInvalidError,
    TemplateError,
    UnknownNodeError,
)
from activities.pipeline.graph import CompiledPipeline, compile_pipeline
from activities.pipeline.paths import MISSING, Path, compile_path
from activities.pipeline.rules import Condition, compile_condition
from activities.pipeline.runs import Delivery, NodeFailure, RunResult
from activities.pipeline.templates import Template, compile_template
from activities.pipeline.transformations import Transformation, compile_transformation, transformation
from activities.pipeline.values import Record

__all__ = [
    "MISSING",
    "ComparisonError",
    "CompiledPipeline",
    "Condition",
    "ConditionError",
    "Delivery",
    "InvalidNodeError",
    "InvalidRecordError",
    "LimitExceededError",
    "NodeFailure",
    "Path",
    "PathError",
    "PipelineError",
    "PipelineInvalidError",
    "Record",
    "RunResult",
    "Template",
    "TemplateError",
    "Transformation",
    "UnknownNodeError",
    "compile_condition",
    "compile_path",
    "compile_pipeline",
    "compile_template",
    "compile_transformation",
    "transformation",
]
