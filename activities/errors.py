"""The error tree, split by what the retrier must do, and its one mapping to Temporal.

    WorkerError
    ├── FinalError                  trying again cannot help
    │   ├── NotFoundError           a pipeline, node, target or connector that is not there
    │   ├── InvalidConfigurationError  it is there and cannot be used as it stands
    │   ├── InvalidRecordError      the record or its message cannot be processed
    │   └── RejectedError           the destination refused the delivery for good
    │       └── UnauthorizedError   ... because of the credentials: worth a look whether they were replaced
    └── UnavailableError            something is away; try again, later if it said when

Messages name the thing (which pipeline, node, target). They never hold a secret or a record's contents: Temporal
stores them in plain text.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.pipeline.errors import PipelineError
from cache.crypto import CredentialsError
from cache.documents import UnsupportedDocumentError
from cache.keys import InvalidIdentifierError
from cache.source import SourceUnavailableError


class WorkerError(Exception):
    """Base of every error that the worker raises on purpose."""


class FinalError(WorkerError):
    """Trying again cannot help."""


class NotFoundError(FinalError):
    """A pipeline, node, target or connector that is not there."""


class InvalidConfigurationError(FinalError):
    """Something stored for a pipeline cannot be used as it stands."""


class InvalidRecordError(FinalError):
    """The message or a record in it cannot be processed."""


class RejectedError(FinalError):
    """The destination refused the delivery for good."""


class UnauthorizedError(RejectedError):
    """The destination refused the credentials."""


class UnavailableError(WorkerError):
    """Something is away for now.

    Attributes:
        retry_after: How long it asked to be left alone, or None where it did not say.
        details: JSON values for whoever gives up on it in the end: what had been done by then.
    """

    def __init__(self, message: str, *, retry_after: timedelta | None = None, details: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.details = details


TRANSLATIONS: dict[type[Exception], type[WorkerError]] = {
    SourceUnavailableError: UnavailableError,
    CredentialsError: InvalidConfigurationError,
    UnsupportedDocumentError: InvalidConfigurationError,
    PipelineError: InvalidConfigurationError,
    InvalidIdentifierError: InvalidRecordError,
}
"""What the layers below raise, and what that means to the retrier. Their messages are fit to be stored."""


def translate(error: Exception) -> WorkerError | None:
    """The error of ours that an error of the layers below stands for, or None where nobody foresaw it."""
    for foreseen, ours in TRANSLATIONS.items():
        if isinstance(error, foreseen):
            return ours(str(error))
    return None


def to_application_error(error: WorkerError) -> ApplicationError:
    """Map an error of ours to what Temporal understands: its type by name, whether and when it is retried.

    All of them are benign to Temporal: foreseen, and logged by `activities/boundary.py` in a line, not with a stack.
    """
    away = error if isinstance(error, UnavailableError) else None
    return ApplicationError(
        str(error),
        *(away.details if away else ()),
        type=type(error).__name__,
        non_retryable=isinstance(error, FinalError),
        next_retry_delay=away.retry_after if away else None,
        category=ApplicationErrorCategory.BENIGN,
    )
