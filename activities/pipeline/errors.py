"""The engine's errors: one small tree whose messages name nodes, paths, operators and types, never a record's contents.

    PipelineError
    ├── PipelineInvalidError    the nodes cannot be used at all: no JSON object, no such start node, a cycle
    ├── InvalidRecordError      what was sent is no JSON object
    ├── InvalidNodeError        a node cannot be used as it stands
    ├── UnknownNodeError        a node that another one names is not there
    ├── PathError               a path is malformed, or cannot be set in this record
    ├── ConditionError          a condition is malformed
    ├── ComparisonError         an operator does not compare values of these types
    ├── TemplateError           a template cannot be rendered
    └── LimitExceededError      a bound of `limits.py` was passed

The engine imports no other package of ours, so this tree stands beside `activities/errors.py`.
"""

from __future__ import annotations

from typing import Any, Self

LONGEST_QUOTE = 80


class PipelineError(Exception):
    """Base of every error that the engine raises on purpose."""

    def within(self, place: str) -> Self:
        """The same error as a new instance, its message prefixed with where it happened."""
        return type(self)(f"{place}: {self}")


class PipelineInvalidError(PipelineError):
    """The nodes cannot be used at all."""


class InvalidRecordError(PipelineError):
    """What was sent is no JSON object."""


class InvalidNodeError(PipelineError):
    """A node cannot be used as it stands."""


class UnknownNodeError(PipelineError):
    """A node that another one names is not there."""


class PathError(PipelineError):
    """A path is malformed, or cannot be set in this record."""


class ConditionError(PipelineError):
    """A condition is malformed."""


class ComparisonError(PipelineError):
    """An operator does not compare values of these types."""


class TemplateError(PipelineError):
    """A template cannot be rendered."""


class LimitExceededError(PipelineError):
    """A bound of `limits.py` was passed."""


def quote(name: Any) -> str:
    """A name from a pipeline's configuration, fit for a message: quoted, printable, cut where it is long."""
    if not isinstance(name, str):
        return "(none)" if name is None else f"(a {type(name).__name__})"
    return repr(name) if len(name) <= LONGEST_QUOTE else f"{name[:LONGEST_QUOTE]!r}..."
