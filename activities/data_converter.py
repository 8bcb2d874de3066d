"""How payloads are written: plain JSON as the API server writes it, in a record's own key order."""

from __future__ import annotations

import json
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    AdvancedJSONEncoder,
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
)


class OrderedJSONPayloadConverter(JSONPlainPayloadConverter):
    """JSON payloads whose objects keep their order. The SDK's own sorts keys, which a delivered record would show."""

    def to_payload(self, value: Any) -> Payload | None:
        """Encode a value as `json/plain`."""
        data = json.dumps(value, cls=AdvancedJSONEncoder, separators=(",", ":"))
        return Payload(metadata={"encoding": self.encoding.encode()}, data=data.encode())


class WorkerPayloadConverter(CompositePayloadConverter):
    """The SDK's converters with JSON replaced by ours."""

    def __init__(self) -> None:
        standard = DefaultPayloadConverter.default_encoding_payload_converters
        super().__init__(
            *(OrderedJSONPayloadConverter() if type(c) is JSONPlainPayloadConverter else c for c in standard)
        )


DATA_CONVERTER = DataConverter(payload_converter_class=WorkerPayloadConverter)
"""For the worker's client. Readable by every other client: the encoding is the standard one."""
