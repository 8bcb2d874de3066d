"""What a change in MongoDB makes outdated in Redis: from change events to levels of the cache. No I/O.

An event names the document that changed as it is now, and as it was where its collection keeps pre-images
(`changeStreamPreAndPostImages`, MongoDB 6). Where identifiers stay unknown, the level above goes as a whole:

    insert, replace           the document as it is now, and as it was if that is known. A replacement is taken to
                              leave the identifiers as they were; if it did not, the older ones end with their TTL
    update                    likewise; an identifier that was changed was another one before: the level above it
    delete                    the document as it was; without a pre-image everything, as no more than `_id` is known
    drop, rename, ...         everything

Events and their fields: https://www.mongodb.com/docs/manual/reference/change-events/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cache.keys import InvalidIdentifierError, identifier

Event = Mapping[str, Any]
"""A change event, with no more of its document than the identifiers."""

MOST_SCANS = 8
"""How many levels are worth a scan of Redis each; if there are more at once, fewer and wider ones go."""


class Level(Enum):
    """What can be invalidated, and whether that takes a scan of Redis."""

    EVERYTHING = ("everything", True)
    ORGANISATION = ("organisation", True)
    PROJECT = ("project", True)
    PIPELINE = ("pipeline", True)
    WORKFLOW = ("workflow", False)
    TARGET = ("target", False)
    CONNECTOR = ("connector", False)

    def __init__(self, label: str, scans: bool) -> None:  # noqa: FBT001 the members above are its only calls
        self.label = label
        self.scans = scans


_BY_DEPTH = (Level.EVERYTHING, Level.ORGANISATION, Level.PROJECT, Level.PIPELINE)
"""The level that is known by so many identifiers."""

_DEEPEST_ABOVE = {
    Level.ORGANISATION: 0,
    Level.PROJECT: 1,
    Level.PIPELINE: 2,
    Level.CONNECTOR: 2,
    Level.WORKFLOW: 3,
    Level.TARGET: 3,
}
"""How many identifiers the level right above has, which a level goes with."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """A level of the cache that is not what MongoDB has.

    Attributes:
        level: Which kind.
        identifiers: Which one.
        pipeline_code: Of a pipeline, if it is known and did not change.
    """

    level: Level
    identifiers: tuple[str, ...] = ()
    pipeline_code: str | None = None


EVERYTHING = Outdated(Level.EVERYTHING)

_PROJECT = ("organisationId", "projectId")
_PIPELINE = (*_PROJECT, "pipelineId")
_CODE = "pipelineCode"

COLLECTIONS: dict[str, tuple[Level, tuple[str, ...]]] = {
    "Organisations": (Level.ORGANISATION, ("organisationId",)),
    "Projects": (Level.PROJECT, _PROJECT),
    "Pipelines": (Level.PIPELINE, _PIPELINE),
    "PipelineNodes": (Level.WORKFLOW, _PIPELINE),
    "IntegrationConnectors": (Level.CONNECTOR, (*_PROJECT, "connectorId")),
    "IntegrationTargets": (Level.TARGET, (*_PIPELINE, "targetId")),
}
"""Every collection that is cached from: which level its documents are, and which fields say which one."""

_FIELDS = sorted({field for _, fields in COLLECTIONS.values() for field in fields} | {_CODE})
_OF_DOCUMENTS = ("insert", "update", "replace", "delete")

STAGES: list[dict[str, Any]] = [
    {
        "$match": {
            "$or": [
                {"ns.coll": {"$in": list(COLLECTIONS)}},
                {"to.coll": {"$in": list(COLLECTIONS)}},
                {"operationType": {"$in": ["dropDatabase", "invalidate"]}},
            ]
        }
    },
    # The server sends identifiers and nothing else: no contents come here, and no event outgrows BSON's 16 MiB.
    {
        "$project": {
            **dict.fromkeys(("operationType", "clusterTime", "ns", "updateDescription.removedFields"), 1),
            **{
                f"{part}.{field}": 1
                for part in (
                    "documentKey",
                    "fullDocument",
                    "fullDocumentBeforeChange",
                    "updateDescription.updatedFields",
                )
                for field in _FIELDS
            },
        }
    },
]
"""What follows `$changeStream` in the pipeline: which events, and what of them."""


def outdated_by(event: Event) -> set[Outdated]:
    """What a change makes outdated; nothing if it was to a document that no key can name."""
    collection = COLLECTIONS.get(event.get("ns", {}).get("coll", ""))
    if collection is None or event["operationType"] not in _OF_DOCUMENTS:
        return {EVERYTHING}
    named = (_named(*collection, document, known=known) for document, known in _documents(event))
    return {outdated for outdated in named if outdated is not None}


def combined(outdated: Iterable[Outdated]) -> set[Outdated]:
    """The same or more, without what is below another one, and with few levels that take a scan."""
    remaining = _uncovered(set(outdated))
    for depth in (2, 1, 0):
        if sum(item.level.scans for item in remaining) <= MOST_SCANS:
            break
        remaining = _uncovered({_widened(item, depth) for item in remaining})
    return remaining


def _documents(event: Event) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """The identifiers of the document that changed, and whether they are all there are: now, and as they were."""
    before, now = event.get("fullDocumentBeforeChange"), event.get("fullDocument")
    if before is not None:
        yield before, True
    if now is not None:
        yield now, True
    if before is None and now is None:
        # It has been deleted meanwhile, or now. With sharding, the key holds more than `_id`.
        yield event.get("documentKey", {}), False
    elif before is None:
        changed = event.get("updateDescription", {})
        names = {*changed.get("updatedFields", ()), *changed.get("removedFields", ())}
        if not names.isdisjoint(_FIELDS):
            yield {field: value for field, value in (now or {}).items() if field not in names}, False


def _named(level: Level, fields: tuple[str, ...], document: Mapping[str, Any], *, known: bool) -> Outdated | None:
    """What such a document is in the cache, or the level above where not all of its identifiers can be had."""
    identifiers = tuple(_beginning(document, fields))
    if not identifiers:
        return None if known else EVERYTHING
    if len(identifiers) < len(fields):
        return Outdated(_BY_DEPTH[len(identifiers)], identifiers)
    code = next(_beginning(document, (_CODE,)), None) if level is Level.PIPELINE else None
    return Outdated(level, identifiers, code)


def _beginning(document: Mapping[str, Any], fields: tuple[str, ...]) -> Iterator[str]:
    """The values of `fields`, up to the first that can be no part of a key."""
    for field in fields:
        try:
            yield identifier(document.get(field))
        except InvalidIdentifierError:
            return


def _uncovered(outdated: set[Outdated]) -> set[Outdated]:
    """Without what goes anyway, together with a level that it is below."""
    if EVERYTHING in outdated:
        return {EVERYTHING}
    levels = {(item.level, item.identifiers) for item in outdated}
    return {item for item in outdated if not any(above in levels for above in _above(item))}


def _above(item: Outdated) -> Iterator[tuple[Level, tuple[str, ...]]]:
    for depth in range(1, _DEEPEST_ABOVE[item.level] + 1):
        yield _BY_DEPTH[depth], item.identifiers[:depth]


def _widened(item: Outdated, depth: int) -> Outdated:
    if not item.level.scans or len(item.identifiers) <= depth:
        return item
    return Outdated(_BY_DEPTH[depth], item.identifiers[:depth])
