"""Payloads: any JSON value survives the way, whatever is in it, and every other client can read it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter, JSONPlainPayloadConverter

from activities.contracts import (
    DeliverInput,
    DeliveryItem,
    ErrorDetails,
    MessageId,
    NodeFailure,
    ProcessedRecords,
    TargetDelivery,
)
from activities.data_converter import DATA_CONVERTER, FastJSONPayloadConverter

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
)
MESSAGE = MessageId(organisation_id="o", project_id="p", pipeline_id="l", message_id="m")


def there_and_back(value: Any, hint: type | None = None) -> Any:
    converter = FastJSONPayloadConverter()
    payload = converter.to_payload(value)
    assert payload is not None
    return converter.from_payload(payload, hint)


def delivery(record: dict[str, Any]) -> DeliverInput:
    item = DeliveryItem(record_index=3, node_id="end", record=record)
    return DeliverInput(message=MESSAGE, delivery=TargetDelivery(target_id="t", items=[item]))


@given(JSON)
def test_any_json_value_comes_back_the_same(value: Any) -> None:
    assert there_and_back(value) == value


@given(st.dictionaries(st.text(), JSON))
def test_any_record_in_a_dataclass_comes_back_the_same(record: dict[str, Any]) -> None:
    assert there_and_back(delivery(record), DeliverInput) == delivery(record)


@pytest.mark.parametrize(
    "record",
    [
        {"huge": 10**400},
        {"negative": -(2**70)},
        {"surrogate": "\ud800"},
        {"\udfff": 1},
        {"zebra": 1, "ant": 2},
        {"é": "✓"},
        {"deep": json.loads("[" * 190 + "]" * 190)},
    ],
)
def test_records_that_a_fast_encoder_refuses_are_carried_all_the_same(record: dict[str, Any]) -> None:
    back = there_and_back(delivery(record), DeliverInput)
    assert back == delivery(record)
    assert list(back.delivery.items[0].record) == list(record)


def test_what_is_no_json_becomes_null_rather_than_an_unreadable_payload() -> None:
    assert there_and_back([math.nan, math.inf, 1.5]) == [None, None, 1.5]


def test_the_sdks_own_converter_reads_ours_and_ours_reads_its() -> None:
    result = ProcessedRecords(
        processed=1,
        failures=[
            NodeFailure(record_index=0, node_id=None, current_input="x", error=ErrorDetails(type="T", message="m"))
        ],
    )
    theirs = JSONPlainPayloadConverter()
    ours = FastJSONPayloadConverter().to_payload(result)
    assert ours is not None
    assert theirs.from_payload(ours, ProcessedRecords) == result
    assert FastJSONPayloadConverter().from_payload(theirs.to_payload(result), ProcessedRecords) == result


async def test_bytes_and_null_keep_their_standard_encodings() -> None:
    values = [b"bytes", None, {"a": 1}]
    standard = [payload.metadata["encoding"] for payload in await DataConverter.default.encode(values)]
    assert [payload.metadata["encoding"] for payload in await DATA_CONVERTER.encode(values)] == standard


def test_what_is_not_json_is_refused_as_by_the_sdk() -> None:
    with pytest.raises(RuntimeError, match="Failed parsing"):
        FastJSONPayloadConverter().from_payload(Payload(data=b"{no json"), DeliverInput)
