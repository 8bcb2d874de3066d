"""What the API server sends: reading it, and what is wrong with one that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue

from activities.contracts import MessageId
from activities.data_converter import json_size
from workflows.policies import CHUNK_BYTES, CHUNK_RECORDS

MAX_DEPTH = 200
"""Levels that a record may be nested: JSON that is deeper cannot be relied on to be written again."""

LONGEST_IDENTIFIER = 256
"""Characters of an identifier; those of the platform are UUIDs. They stand in every payload and failure record."""

JSON_TYPES = (dict, list, str, int, float, bool, type(None))

IDENTIFIERS = ("organisationId", "projectId", "pipelineId", "messageId")

UNKNOWN = "unknown"
"""Stands for an identifier that a malformed message does not have."""


class InvalidMessageError(ValueError):
    """The workflow's input is not what the API server sends; the message names what is missing, not what was there."""


def read_payload(message: RawValue) -> Any:
    """The JSON value that was sent.

    Raises:
        InvalidMessageError: It is no JSON, or nested without end.
    """
    try:
        value = workflow.payload_converter().from_payload(message.payload)
    except (RuntimeError, KeyError, ValueError, RecursionError) as error:
        # The converter's own message may quote what was sent; the error's type does not.
        raise InvalidMessageError(f"the message is unreadable ({type(error).__name__})") from None
    if not isinstance(value, JSON_TYPES):
        raise InvalidMessageError(f"the message is no JSON but {type(value).__name__}")
    return value


def payload_text(message: RawValue) -> str:
    """What was sent, as text: what is stored of a message that cannot be read."""
    return message.payload.data.decode("utf-8", "replace")


def carried(value: Any) -> Any:
    """A value as it can be handed on: in place of one nested too deeply, its JSON text, which is no record."""
    if not _deeper_than(value, MAX_DEPTH):
        return value
    try:
        return json.dumps(value)
    except RecursionError:
        return "nested too deeply to be written; the workflow's input in Temporal has it"


def _deeper_than(value: Any, levels: int) -> bool:
    """Whether a value is nested deeper than that; level by level, so that no depth is too much for the check."""
    level = [value]
    for _ in range(levels):
        level = [child for parent in level if isinstance(parent, (dict, list)) for child in _children(parent)]
        if not level:
            return False
    return True


def _children(parent: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return parent.values() if isinstance(parent, dict) else parent


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message: whose it is, its records, and whether they came as a batch."""

    message: MessageId
    records: list[Any]
    is_batch: bool

    @classmethod
    def parse(cls, value: Any) -> Envelope:
        """Read `{"metadata": {...}, "log_data": {...}}` or the same with `log_batch`, a list of records.

        Raises:
            InvalidMessageError: Something is missing or of another type.
        """
        if not isinstance(value, dict):
            raise InvalidMessageError("the message is no object")
        message = _identifiers(value.get("metadata"))
        if "log_batch" in value:
            if not isinstance(value["log_batch"], list):
                raise InvalidMessageError("log_batch is no list")
            return cls(message, [carried(record) for record in value["log_batch"]], is_batch=True)
        if not isinstance(value.get("log_data"), dict):
            raise InvalidMessageError("log_data is missing or no object")
        if _deeper_than(value["log_data"], MAX_DEPTH):
            raise InvalidMessageError(f"log_data is nested deeper than {MAX_DEPTH} levels")
        return cls(message, [value["log_data"]], is_batch=False)

    @property
    def original_input(self) -> Any:
        """The records as they came."""
        return self.records if self.is_batch else self.records[0]


def _identifiers(metadata: Any) -> MessageId:
    if not isinstance(metadata, dict):
        raise InvalidMessageError("metadata is missing or no object")
    missing = [name for name in IDENTIFIERS if not _is_identifier(metadata.get(name))]
    if missing:
        raise InvalidMessageError(f"metadata lacks {', '.join(missing)}, or what is there is no identifier")
    return guess_identifiers({"metadata": metadata}, UNKNOWN)


def _is_identifier(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_IDENTIFIER


def guess_identifiers(value: Any, message_id: str) -> MessageId:
    """As many identifiers as a message has, to store its failure under; `message_id` serves where it has none."""
    metadata = value.get("metadata") if isinstance(value, dict) else None
    known = metadata if isinstance(metadata, dict) else {}

    def one(name: str, otherwise: str = UNKNOWN) -> str:
        return known[name] if _is_identifier(known.get(name)) else otherwise

    return MessageId(
        organisation_id=one("organisationId"),
        project_id=one("projectId"),
        pipeline_id=one("pipelineId"),
        message_id=one("messageId", message_id),
    )


def next_chunk(records: list[Any], first: int) -> list[Any]:
    """The records from `first` on, so many that no payload nears Temporal's limits; at least one, if there is one."""
    size = 0
    for index in range(first, min(len(records), first + CHUNK_RECORDS)):
        size += json_size(records[index])
        if size > CHUNK_BYTES and index > first:
            return records[first:index]
    return records[first : first + CHUNK_RECORDS]
