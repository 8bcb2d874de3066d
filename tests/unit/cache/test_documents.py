"""BSON becomes the JSON that the platform's Node.js servers would have written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from cache.documents import UnsupportedDocumentError, to_json

UNIQUE = UUID("148311fe-fcab-43d4-8fc3-3261abdcf33b")


@pytest.mark.parametrize(
    ("stored", "json"),
    [
        (ObjectId("6b03e45eaab088bb356790b3"), '"6b03e45eaab088bb356790b3"'),
        (datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC), '"2026-01-02T03:04:05.678Z"'),
        (datetime(2026, 1, 2, 3, 4, 5), '"2026-01-02T03:04:05.000Z"'),  # noqa: DTZ001 as pymongo gives it
        (datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), '"2026-01-02T01:00:00.000Z"'),
        (datetime(1, 1, 1, tzinfo=UTC), '"0001-01-01T00:00:00.000Z"'),
        (Int64(7), "7"),
        (Int64(2**53), "9007199254740992"),
        (Decimal128("12.50"), '{"$numberDecimal":"12.50"}'),
        (b"\x00\xff", '"AP8="'),
        (Binary(b"\x00\xff", 128), '"AP8="'),
        (Binary.from_uuid(UNIQUE), f'"{UNIQUE}"'),
        (3.0, "3"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (5e20, "5e+20"),
        (float("nan"), "null"),
        (float("-inf"), "null"),
        (True, "true"),
        (None, "null"),
        ("größe", '"größe"'),
        ([{"a": Int64(1)}, []], '[{"a":1},[]]'),
    ],
)
def test_each_type_has_its_json_form(stored: Any, json: str) -> None:
    converted = to_json({"value": stored}, "Things thingId=1")["value"]
    assert orjson.dumps(converted).decode() == json


def test_only_the_id_at_the_top_is_left_out() -> None:
    assert to_json({"_id": ObjectId(), "a": {"_id": "kept"}}, "") == {"a": {"_id": "kept"}}


@pytest.mark.parametrize(
    "stored",
    [
        Regex("planted"),
        Code("planted()"),
        Timestamp(1, 1),
        MaxKey(),
        Int64(2**53 + 1),
        Int64(-(2**63)),
        DatetimeMS(2**60),
        {"deep": [Regex("planted")]},
    ],
)
def test_what_json_cannot_express_is_refused_by_name_and_never_shown(stored: Any) -> None:
    with pytest.raises(UnsupportedDocumentError, match="Targets targetId=7") as refusal:
        to_json({"value": stored, "other": "planted"}, "Targets targetId=7")
    assert "planted" not in repr(refusal.value)
