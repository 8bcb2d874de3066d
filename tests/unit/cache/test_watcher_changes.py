"""What a change makes outdated: exactly what it was made to, or the level above where identifiers are not known."""

from __future__ import annotations

from typing import Any

import pytest

from cache.changes import COLLECTIONS, EVERYTHING, MOST_SCANS, Level, Outdated, combined, outdated_by

DOCUMENT = {
    "organisationId": "o",
    "projectId": "p",
    "pipelineId": "l",
    "pipelineCode": "code",
    "connectorId": "c",
    "targetId": "t",
}
EXACTLY = {
    "Organisations": Outdated(Level.ORGANISATION, ("o",)),
    "Projects": Outdated(Level.PROJECT, ("o", "p")),
    "Pipelines": Outdated(Level.PIPELINE, ("o", "p", "l"), "code"),
    "PipelineNodes": Outdated(Level.WORKFLOW, ("o", "p", "l")),
    "IntegrationConnectors": Outdated(Level.CONNECTOR, ("o", "p", "c")),
    "IntegrationTargets": Outdated(Level.TARGET, ("o", "p", "l", "t")),
}


def _event(operation: str, collection: str = "Pipelines", **fields: Any) -> dict[str, Any]:
    return {"operationType": operation, "ns": {"db": "d", "coll": collection}, "documentKey": {}, **fields}


def _update(document: dict[str, Any] | None, *removed: str, **updated: str) -> dict[str, Any]:
    return _event(
        "update", fullDocument=document, updateDescription={"updatedFields": updated, "removedFields": list(removed)}
    )


@pytest.mark.parametrize("operation", ["insert", "replace", "update"])
@pytest.mark.parametrize("collection", list(COLLECTIONS))
def test_a_document_that_is_there_names_itself(collection: str, operation: str) -> None:
    assert outdated_by(_event(operation, collection, fullDocument=DOCUMENT)) == {EXACTLY[collection]}


@pytest.mark.parametrize("collection", list(COLLECTIONS))
def test_a_deleted_document_is_known_by_what_it_was(collection: str) -> None:
    assert outdated_by(_event("delete", collection, fullDocumentBeforeChange=DOCUMENT)) == {EXACTLY[collection]}


@pytest.mark.parametrize("collection", list(COLLECTIONS))
@pytest.mark.parametrize("operation", ["delete", "update"])
def test_a_document_that_nobody_knows_any_more_makes_everything_outdated(collection: str, operation: str) -> None:
    event = _event(operation, collection, fullDocument=None, fullDocumentBeforeChange=None)
    assert outdated_by(event) == {EVERYTHING}


def test_with_sharding_a_deleted_document_is_known_by_its_shard_key() -> None:
    key = {"organisationId": "o", "projectId": "p"}
    assert outdated_by({**_event("delete"), "documentKey": key}) == {Outdated(Level.PROJECT, ("o", "p"))}


@pytest.mark.parametrize(
    ("field", "also"),
    [
        ("pipelineCode", Outdated(Level.PIPELINE, ("o", "p", "l"))),
        ("pipelineId", Outdated(Level.PROJECT, ("o", "p"))),
        ("projectId", Outdated(Level.ORGANISATION, ("o",))),
        ("organisationId", EVERYTHING),
    ],
)
def test_an_identifier_that_changed_was_another_one_before(field: str, also: Outdated) -> None:
    """Whether it was set or removed: then the document has it no more."""
    assert outdated_by(_update(DOCUMENT, **{field: DOCUMENT[field]})) == {EXACTLY["Pipelines"], also}
    without = {name: value for name, value in DOCUMENT.items() if name != field}
    assert also in outdated_by(_update(without, field))


def test_a_pre_image_says_which_identifier_it_was() -> None:
    before = {**DOCUMENT, "pipelineId": "old", "pipelineCode": "old-code"}
    event = {**_update(DOCUMENT, pipelineId="l", pipelineCode="code"), "fullDocumentBeforeChange": before}
    assert outdated_by(event) == {EXACTLY["Pipelines"], Outdated(Level.PIPELINE, ("o", "p", "old"), "old-code")}


def test_other_fields_may_change_without_further_effect() -> None:
    assert outdated_by(_update(DOCUMENT, "description", active="false")) == {EXACTLY["Pipelines"]}


@pytest.mark.parametrize("operation", ["drop", "rename", "dropDatabase", "invalidate"])
def test_what_is_done_to_a_collection_makes_everything_outdated(operation: str) -> None:
    assert outdated_by(_event(operation)) == {EVERYTHING}
    assert outdated_by({"operationType": operation}) == {EVERYTHING}


@pytest.mark.parametrize("hostile", ["*", "a:b", "", None, 7, "[o]", "é"])
def test_what_no_key_can_name_is_in_no_cache(hostile: Any) -> None:
    """It reaches neither a key nor a pattern; the level above goes, for a pipeline has a second name: its code."""
    assert outdated_by(_event("insert", fullDocument={**DOCUMENT, "organisationId": hostile})) == set()
    assert outdated_by(_event("insert", fullDocument={**DOCUMENT, "pipelineId": hostile})) == {
        Outdated(Level.PROJECT, ("o", "p"))
    }
    assert outdated_by(_event("insert", fullDocument={**DOCUMENT, "pipelineCode": hostile})) == {
        Outdated(Level.PIPELINE, ("o", "p", "l"))
    }


def test_what_is_below_an_outdated_level_goes_with_it() -> None:
    project, elsewhere = Outdated(Level.PROJECT, ("o", "p")), Outdated(Level.WORKFLOW, ("o", "q", "l"))
    assert combined([*EXACTLY.values(), elsewhere]) == {EXACTLY["Organisations"]}
    below = {EXACTLY[name] for name in ("Pipelines", "PipelineNodes", "IntegrationTargets", "IntegrationConnectors")}
    assert combined([*below, project, elsewhere]) == {project, elsewhere}
    assert combined(below) == {EXACTLY["Pipelines"], EXACTLY["IntegrationConnectors"]}
    assert combined([*EXACTLY.values(), EVERYTHING]) == {EVERYTHING}


def test_a_connector_is_not_below_the_pipeline_of_the_same_name() -> None:
    both = {Outdated(Level.PIPELINE, ("o", "p", "x")), Outdated(Level.CONNECTOR, ("o", "p", "x"))}
    assert combined(both) == both


def test_few_levels_are_left_as_they_are() -> None:
    pipelines = {Outdated(Level.PIPELINE, ("o", "p", str(number))) for number in range(MOST_SCANS)}
    assert combined(pipelines) == pipelines


@pytest.mark.parametrize(
    ("level", "identifiers", "wider"),
    [
        (Level.PIPELINE, ("o", "p", "{}"), Outdated(Level.PROJECT, ("o", "p"))),
        (Level.PIPELINE, ("o", "{}", "l"), Outdated(Level.ORGANISATION, ("o",))),
        (Level.PROJECT, ("o", "{}"), Outdated(Level.ORGANISATION, ("o",))),
        (Level.PIPELINE, ("{}", "p", "l"), EVERYTHING),
        (Level.ORGANISATION, ("{}",), EVERYTHING),
    ],
)
def test_many_levels_become_a_wider_one(level: Level, identifiers: tuple[str, ...], wider: Outdated) -> None:
    """A bulk edit costs a scan or two, not thousands; and no more tenants than have to be."""
    many = [Outdated(level, tuple(part.format(number) for part in identifiers)) for number in range(MOST_SCANS + 1)]
    assert combined(many) == {wider}


def test_many_keys_that_take_no_scan_are_left_as_they_are() -> None:
    targets = {Outdated(Level.TARGET, ("o", "p", "l", str(number))) for number in range(100)}
    assert combined(targets) == targets
