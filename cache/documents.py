"""BSON to JSON, as the platform's Node.js servers would have written it with JSON.stringify.

What each type becomes is defined by the `toJSON` methods of the js-bson package and by ECMAScript's `JSON.stringify`.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from bson import Binary, Decimal128, ObjectId
from bson.binary import UUID_SUBTYPE

LARGEST_JAVASCRIPT_INTEGER = 2**53
"""Above this the servers would have written an integer as `{"low", "high", "unsigned"}`, which nobody reads back."""

UUID_BYTES = 16


class UnsupportedDocumentError(ValueError):
    """A document holds something that JSON cannot; the message names the document and never its contents."""


def to_json(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the document as plain JSON values, without the `_id` at its top.

    Args:
        document: As pymongo decoded it.
        name: Which document it is, for messages: collection and identifiers.

    Raises:
        UnsupportedDocumentError: It holds a value of a type that has no JSON form.
    """
    try:
        return {key: _value(value) for key, value in document.items() if key != "_id"}
    except _UnsupportedTypeError as error:
        raise UnsupportedDocumentError(f"{name} holds a value that has no JSON form: {error}") from None


class _UnsupportedTypeError(Exception):
    """Its message is the type's name."""


def _value(value: Any) -> Any:
    if value is None or type(value) in {str, bool}:  # exactly: Code is a kind of str
        return value
    if isinstance(value, Mapping):
        return {key: _value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, int | float):
        return _number(value)
    return _other(value)


def _number(value: float) -> int | float | None:
    if isinstance(value, int):
        if abs(value) > LARGEST_JAVASCRIPT_INTEGER:
            raise _UnsupportedTypeError("an integer beyond 2^53")
        return int(value)
    if not math.isfinite(value):
        return None
    # JavaScript knows one kind of number: 3.0 is written 3. Larger ones are the same number either way.
    return int(value) if value.is_integer() and abs(value) <= LARGEST_JAVASCRIPT_INTEGER else value


def _other(value: Any) -> str | dict[str, str]:
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, datetime):
        return _instant(value)
    if isinstance(value, Decimal128):
        return {"$numberDecimal": str(value)}
    if isinstance(value, bytes):  # Binary is a kind of bytes; subtype 0 comes as bytes itself
        return _binary(value)
    raise _UnsupportedTypeError(type(value).__name__)


def _instant(value: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, as `Date.prototype.toISOString`; without a zone it is UTC, as in BSON."""
    in_utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return in_utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _binary(value: bytes) -> str:
    subtype = value.subtype if isinstance(value, Binary) else 0
    if subtype == UUID_SUBTYPE and len(value) == UUID_BYTES:
        return str(UUID(bytes=bytes(value)))
    return b64encode(value).decode()
