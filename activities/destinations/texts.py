"""The texts that a record becomes on its way to a target: its JSON, or a template filled in."""

from __future__ import annotations

import json
from typing import Any

from activities.errors import InvalidRecordError
from activities.pipeline.errors import TemplateError
from activities.pipeline.templates import compile_template


def record_as_json(target_id: str, record: dict[str, Any]) -> str:
    """The record as JSON text, non-ASCII characters as they are.

    Raises:
        InvalidRecordError: It holds what JSON cannot carry: NaN, an infinity, or too deep a nesting.
    """
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        raise InvalidRecordError(f"target {target_id}: the record cannot be written as JSON") from None


def record_in_template(target_id: str, template: str, record: dict[str, Any]) -> str:
    """The template with the record's values in it.

    Raises:
        InvalidRecordError: This record cannot be put in.
    """
    try:
        return compile_template(template).render(record)
    except TemplateError as error:
        raise InvalidRecordError(f"target {target_id}: {error}") from None
