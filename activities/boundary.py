"""The one place where errors leave an activity: typed by what the retrier must do, with nothing secret in them."""

from __future__ import annotations

import logging
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.errors import WorkerError, to_application_error, translate

logger = logging.getLogger(__name__)


class ErrorBoundary(Interceptor):
    """Worker interceptor that maps every error of every activity to Temporal."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - the SDK's name
        """Put the boundary around an activity."""
        return _ErrorBoundary(next)


class _ErrorBoundary(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - the SDK's name
        try:
            return await super().execute_activity(input)
        except ApplicationError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an activity raises leaves it here, and only here
            raise _outgoing(error).with_traceback(error.__traceback__) from None


def _outgoing(error: Exception) -> ApplicationError:
    """The error as Temporal may store it. One that nobody foresaw may quote a record, so its message stays behind."""
    name = activity.info().activity_type
    foreseen = error if isinstance(error, WorkerError) else translate(error)
    if foreseen is not None:
        logger.warning("Activity %s failed: %s", name, foreseen)
        return to_application_error(foreseen)
    logger.error("Activity %s failed: unforeseen %s", name, type(error).__name__)
    return ApplicationError(f"unforeseen {type(error).__name__} in {name}", type=type(error).__name__)
