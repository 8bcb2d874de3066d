"""How payloads are written and read: plain JSON as the API server writes it, fast, in a record's own key order."""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    AdvancedJSONEncoder,
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
)


def encode_json(value: Any) -> bytes:
    """A value as compact JSON: dataclasses as objects, keys in their order, NaN and infinities as null.

    Raises:
        TypeError: It holds something that is no JSON.
        RecursionError: It is nested too deeply.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # integers beyond 64 bits and lone surrogates, which the standard library can write
        return json.dumps(value, cls=AdvancedJSONEncoder, separators=(",", ":")).encode()


def json_size(value: Any) -> int:
    """Bytes of a value in a payload."""
    return len(encode_json(value))


class FastJSONPayloadConverter(JSONPlainPayloadConverter):
    """The SDK's JSON payloads, without sorting keys, and without holding up the event loop.

    The SDK's own converter takes tens of milliseconds for a batch, and shows a record with its keys sorted.
    """

    def to_payload(self, value: Any) -> Payload | None:
        """Encode a value as `json/plain`."""
        return Payload(metadata={"encoding": self.encoding.encode()}, data=encode_json(value))

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Decode a value; a dataclass straight from the bytes, all else as the SDK does."""
        if type_hint is not None and dataclasses.is_dataclass(type_hint):
            try:
                return _adapter(type_hint).validate_json(payload.data)
            except ValidationError:  # lone surrogates again, or another version's fields: the SDK is more lenient
                return super().from_payload(payload, type_hint)
        return super().from_payload(payload, type_hint)


@lru_cache(maxsize=64)
def _adapter(type_hint: type) -> TypeAdapter[Any]:
    return TypeAdapter(type_hint)


class WorkerPayloadConverter(CompositePayloadConverter):
    """The SDK's converters with JSON replaced by ours."""

    def __init__(self) -> None:
        standard = DefaultPayloadConverter.default_encoding_payload_converters
        super().__init__(*(FastJSONPayloadConverter() if type(c) is JSONPlainPayloadConverter else c for c in standard))


DATA_CONVERTER = DataConverter(payload_converter_class=WorkerPayloadConverter)
"""For the worker's client. Readable by every other client: the encoding is the standard one."""
