"""What a cached document may show to a person: everything but secrets, and what looks like one."""

from __future__ import annotations

import re
from typing import Any

import orjson

from cache.keys import Family

MASK = "***"
NOT_SHOWN = "not a JSON document, so not shown"

SECRETS = frozenset({Family.ORGANISATION_SECRET, Family.PROJECT_SECRET})
CONNECTORS = frozenset({Family.CONNECTOR, Family.DECRYPTED_CONNECTOR})
SHOWN_OF_CONNECTORS = frozenset({"organisationId", "projectId", "connectorId", "connectorName", "integrationType"})
"""Of a connector nothing else is shown: whatever it has beside these may belong to its credentials."""

IDENTIFYING = frozenset(
    {"organisationId", "projectId", "pipelineId", "pipelineCode", "targetId", "connectorId", "orgId"}
    | {"startNodeId", "processorId", "target_id", "next"}
)
"""Fields whose values are identifiers, as they stand in keys; they may look as random as a secret."""

_TELLTALE = re.compile(
    "secret|token|passw|passphrase|pwd|cred|apikey|accesskey|privatekey|auth|encrypted|cookie|signature|header|webhook"
)
"""What a field's name holds, its punctuation aside, when its value is a secret."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(\S*)")
_PREFIXED = re.compile(r"\b(?:(?:bearer|basic)\s+\S+|(?:xox[a-z]|xapp|sk|pk)-\S+|gh[pousr]_\S+|AKIA\w+)", re.IGNORECASE)
_RUN = re.compile(r"[A-Za-z0-9+/_=~-]{16,}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def masked(family: Family, content: bytes) -> Any:
    """What may be shown of a cached value, as plain JSON values.

    Args:
        family: What it is.
        content: Its bytes as Redis holds them.
    """
    if family in SECRETS:
        return MASK
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return NOT_SHOWN
    if not isinstance(document, dict):
        return NOT_SHOWN
    if family is Family.WORKFLOW:  # its names are identifiers of nodes
        return {_text(node): _value("", config) for node, config in document.items()}
    if family in CONNECTORS:
        return {
            _text(name): _text_of(value) if name in SHOWN_OF_CONNECTORS else MASK for name, value in document.items()
        }
    return _mapping(document)


def _value(name: str, value: Any) -> Any:
    if _tells_secret(name):
        return MASK
    if isinstance(value, dict):
        return _mapping(value)
    if isinstance(value, list):
        return [_value(name, item) for item in value]
    if isinstance(value, str):
        return _plain(value) if name in IDENTIFYING else _text(value)
    return value


def _mapping(mapping: dict[str, Any]) -> dict[str, Any]:
    shown = {_text(name): _value(name, value) for name, value in mapping.items()}
    # A node's parameters and conditions name the field in one place and its value in another.
    if _tells_secret(str(mapping.get("key", ""))) and "value" in mapping:
        shown["value"] = MASK
    return shown


def _tells_secret(name: str) -> bool:
    return _TELLTALE.search(re.sub(r"[^a-z0-9]", "", name.lower())) is not None


def _text_of(value: Any) -> str:
    return _text(value) if isinstance(value, str) else MASK


def _text(text: str) -> str:
    return _RUN.sub(_run, _plain(text))


def _plain(text: str) -> str:
    """A text without what is a secret by its form, however short."""
    return _PREFIXED.sub(MASK, _ADDRESS.sub(_address, text))


def _address(found: re.Match[str]) -> str:
    """Scheme and host: user, password, path and query may all be, or hold, the secret."""
    scheme, rest = found.groups()
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if rest == host and "@" not in rest:
        return found[0]
    return f"{scheme}{MASK}" if "@" in rest else f"{scheme}{host}/{MASK}"


def _run(found: re.Match[str]) -> str:
    """A long run of letters and digits, unless it is a UUID or plain words."""
    run = found[0]
    is_random = any(map(str.isdigit, run)) and any(map(str.isalpha, run)) and not _UUID.fullmatch(run)
    return MASK if is_random else run
