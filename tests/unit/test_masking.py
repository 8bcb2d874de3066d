"""What is masked of a cached document, and what an operator still sees of it."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from cache.keys import Family
from workers.masking import MASK, NOT_SHOWN, masked

UUID = "148311fe-fcab-43d4-8fc3-3261abdcf33b"

SECRET_FIELDS = [
    *("password", "slackBotToken", "clientSecret", "api_key", "X-Api-Key", "Authorization", "headers", "creds"),
    *("encryptedCredentials", "organisationSecretEncrypted", "privateKey", "webhookUrl", "Set-Cookie"),
]

SECRET_TEXTS = [
    "xoxb-short",
    "the token is Bearer abc.def",
    "ghp_abcdef",
    "rediss://user:hidden@host/0",
    "redis://:pa/ss@host",
    "https://host/services/hidden",
    "https://host?signature=hidden",
    "9f8Jk2hidden0LmQ7zR",
]

HARMLESS_TEXTS = [
    "#alerts",
    "[{{ $.level }}] {{ $.message }} sev={{ $.alert.severity }} lit=\\$5",
    "Transformation.JSON.add_key",
    "2026-07-01T12:30:00.000Z",
    "https://hooks.example:8443",
    UUID,
    "payment declined by the issuer",
]


def shown(document: dict[str, Any], family: Family = Family.TARGET) -> Any:
    return masked(family, orjson.dumps(document))


@pytest.mark.parametrize("name", SECRET_FIELDS)
@pytest.mark.parametrize("value", ["hidden", 4711, ["hidden"], {"deeper": "hidden"}])
def test_a_field_whose_name_tells_a_secret_is_masked_whole(name: str, value: Any) -> None:
    assert shown({"a": [{name: value}]}) == {"a": [{name: MASK}]}


@pytest.mark.parametrize("text", SECRET_TEXTS)
def test_a_text_that_looks_like_a_secret_is_masked_wherever_it_stands(text: str) -> None:
    for document in ({"note": text}, {"notes": [f"see {text}, please"]}, {text: 1}):
        printed = json.dumps(shown(document))
        assert MASK in printed
        assert not any(part in printed for part in ("hidden", "xoxb-short", "abc.def", "abcdef", "pa/ss"))


@pytest.mark.parametrize("text", HARMLESS_TEXTS)
def test_other_texts_are_shown(text: str) -> None:
    assert shown({"note": text}) == {"note": text}


def test_identifiers_are_shown_however_random_they_look() -> None:
    document = {"pipelineCode": "orders-of-the-shop-1795417182", "startNodeId": "9f8Jk2aa0LmQ7zR99", "active": True}
    assert shown(document, Family.PIPELINE) == document


def test_the_value_of_a_parameter_is_masked_by_the_key_beside_it() -> None:
    assert shown({"check": {"key": "$.user.password", "operator": "et", "value": "hidden"}}) == {
        "check": {"key": "$.user.password", "operator": "et", "value": MASK}
    }


def test_a_node_is_shown_whatever_its_identifier_tells() -> None:
    nodes = {"authenticate": {"type": "end", "target_id": UUID}}
    assert shown(nodes, Family.WORKFLOW) == nodes


@pytest.mark.parametrize("family", [Family.CONNECTOR, Family.DECRYPTED_CONNECTOR])
def test_of_a_connector_nothing_is_shown_but_what_is_known_to_be_harmless(family: Family) -> None:
    connector = {
        "connectorId": "bot",
        "integrationType": "slack",
        "connectorName": {"nested": "hidden"},
        "new": "hidden",
    }
    assert shown(connector, family) == {
        "connectorId": "bot",
        "integrationType": "slack",
        "connectorName": MASK,
        "new": MASK,
    }


@pytest.mark.parametrize("family", [Family.ORGANISATION_SECRET, Family.PROJECT_SECRET])
@pytest.mark.parametrize("content", [b"hidden", b'{"a": "hidden"}', b"\xff"])
def test_a_bare_secret_is_masked_whatever_it_looks_like(family: Family, content: bytes) -> None:
    assert masked(family, content) == MASK


@pytest.mark.parametrize("content", [b"hidden", b'"hidden"', b'["hidden"]', b"17", b"\xff", b""])
def test_what_is_no_document_is_not_shown(content: bytes) -> None:
    assert masked(Family.TARGET, content) == NOT_SHOWN
