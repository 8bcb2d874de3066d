"""Structured logs: one JSON object a line, in the platform's field names."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from temporalio.exceptions import FailureError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.errors import WorkerError

IDENTIFIERS = {
    "organisation_id": "organisationId",
    "project_id": "projectId",
    "pipeline_id": "pipelineId",
    "message_id": "messageId",
}
"""Fields that say whose line it is: their names in Python and in the log."""

_identifiers: ContextVar[dict[str, str] | None] = ContextVar("identifiers", default=None)

QUIET = {
    "aiohttp": logging.WARNING,
    "pymongo": logging.WARNING,
    "slack_sdk": logging.WARNING,
    "temporalio": logging.INFO,
}
"""Libraries whose lower levels print documents, requests and payloads, and with them secrets and records."""


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send all logs to a stream (standard error by default) as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)


class JSONFormatter(logging.Formatter):
    """Formats a record as `timestamp level message organisationId projectId pipelineId messageId context`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        line |= _identifiers.get() or {}
        line["context"] = {"logger": record.name, **_error(record)}
        return json.dumps(line, ensure_ascii=False, default=str)


def _error(record: logging.LogRecord) -> dict[str, Any]:
    if not record.exc_info or record.exc_info[1] is None:
        return {}
    _, error, trace = record.exc_info
    return {"error": {"type": type(error).__name__, "message": _message(error), "stack": _stack(trace)}}


def _message(error: BaseException) -> str:
    """Our own messages are free of secrets and of records; nobody vouches for those of others."""
    return str(error) if isinstance(error, (WorkerError, FailureError)) else ""


def _stack(trace: TracebackType | None) -> str:
    return "".join(traceback.format_tb(trace))


class LogContext(Interceptor):
    """Worker interceptor: what an activity logs carries the identifiers of the message it works on."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - the SDK's name
        """Put the context around an activity."""
        return _LogContext(next)


class _LogContext(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - the SDK's name
        argument = input.args[0] if input.args else None
        owner = getattr(argument, "message", argument)
        found = {name: getattr(owner, attribute, None) for attribute, name in IDENTIFIERS.items()}
        token = _identifiers.set({name: value for name, value in found.items() if isinstance(value, str)})
        try:
            return await super().execute_activity(input)
        finally:
            _identifiers.reset(token)
