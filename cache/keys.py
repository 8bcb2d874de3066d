"""Every Redis key and its TTL: one function per family, named after what it holds, shared with the platform's servers.

datanadhiserver:apikey:<apiKey>
datanadhiserver:org:<org>                                  organisation
                    └ :secret                              its secret
                    └ :prj:<prj>                           project
                         └ :secret                         its secret
                         └ :plc:<code>                     pipeline by code
                         └ :ic:<ic>                        connector as stored
                             └ :decrypted                  connector with its credentials
                         └ :pl:<pl>                        pipeline
                             └ :workflow                   its nodes
                             └ :it:<it>                    target

Values are JSON documents, but for the two secrets: bare strings. Everything under a level can be invalidated together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache, wraps
from typing import TypeVarTuple

PREFIX = "datanadhiserver:"

LONGEST_IDENTIFIER = 256
LONGEST_API_KEY = 4096
"""An API key is three layers of base64 around two identifiers: some 500 characters, never thousands."""

API_KEY_REFUSED_TTL_SECONDS = 150
"""How long a refused API key is remembered; an accepted one has its family's TTL."""

_KEPT = 4096
"""How many keys of a family are kept ready made; making one costs more than the rest of a near-cache hit."""

_SHOWN = 32

# Printable ASCII but for what means something in a key (the separator), to SCAN (glob characters) or to a Cluster,
# which goes by what stands in braces. Anything else is refused too: two identifiers that look alike to a person must
# not be two keys to Redis.
_IDENTIFIER = re.compile(r"[^\x00-\x20\x7f-\U0010ffff:*?\[\]^\\{}]+")


class Family(Enum):
    """What is cached: its name in metrics and how long a value lives in Redis, in seconds."""

    API_KEY = ("api_key", 300)
    ORGANISATION = ("organisation", 1800)
    PROJECT = ("project", 1800)
    PIPELINE_BY_CODE = ("pipeline_by_code", 1800)
    PIPELINE = ("pipeline", 3600)
    WORKFLOW = ("workflow", 3600)
    DECRYPTED_CONNECTOR = ("decrypted_connector", 3600)
    CONNECTOR = ("connector", 1800)
    TARGET = ("target", 3600)
    ORGANISATION_SECRET = ("organisation_secret", 3600)
    PROJECT_SECRET = ("project_secret", 3600)

    def __init__(self, label: str, ttl_seconds: int) -> None:
        self.label = label
        self.ttl_seconds = ttl_seconds


class InvalidIdentifierError(ValueError):
    """An identifier that may not become part of a key; the message shows no more than its beginning, escaped."""


def identifier(value: object, what: str = "identifier") -> str:
    r"""Return `value` if it may become part of a key or of a MongoDB filter.

    Args:
        value: What came from outside.
        what: What it identifies, for the message.

    Raises:
        InvalidIdentifierError: It is no string, empty, longer than 256 characters, or holds `:`, a glob character
            (`*?[]^\\`), a brace or anything that is not printable ASCII.
    """
    if not isinstance(value, str):
        raise InvalidIdentifierError(f"{what} must be a string, not {type(value).__name__}")
    if not value:
        raise InvalidIdentifierError(f"{what} is empty")
    if len(value) > LONGEST_IDENTIFIER:
        raise InvalidIdentifierError(f"{what} is longer than {LONGEST_IDENTIFIER} characters: {_shown(value)}...")
    if not _IDENTIFIER.fullmatch(value):
        raise InvalidIdentifierError(f"{what} holds a character that is not allowed in a key: {_shown(value)}")
    return value


def _shown(value: str) -> str:
    return ascii(value[:_SHOWN])


Identifiers = TypeVarTuple("Identifiers")


def _kept(make: Callable[[*Identifiers], str]) -> Callable[[*Identifiers], str]:
    """Keep the keys made last; an identifier that cannot even be hashed is left to `make`, which refuses it."""
    kept = lru_cache(_KEPT)(make)

    @wraps(make)
    def key(*identifiers: *Identifiers) -> str:
        try:
            return kept(*identifiers)
        except TypeError:
            return make(*identifiers)

    return key


@_kept
def organisation(organisation_id: str) -> str:
    """Key of an organisation's document."""
    return f"{PREFIX}org:{identifier(organisation_id, 'organisation id')}"


@_kept
def project(organisation_id: str, project_id: str) -> str:
    """Key of a project's document."""
    return f"{organisation(organisation_id)}:prj:{identifier(project_id, 'project id')}"


@_kept
def pipeline_by_code(organisation_id: str, project_id: str, pipeline_code: str) -> str:
    """Key of a pipeline's document, found by its code."""
    return f"{pipelines_by_code(organisation_id, project_id)}:{identifier(pipeline_code, 'pipeline code')}"


def pipelines_by_code(organisation_id: str, project_id: str) -> str:
    """The level that holds all pipelines by code of a project; no key itself."""
    return f"{project(organisation_id, project_id)}:plc"


@_kept
def pipeline(organisation_id: str, project_id: str, pipeline_id: str) -> str:
    """Key of a pipeline's document, found by its id."""
    return f"{project(organisation_id, project_id)}:pl:{identifier(pipeline_id, 'pipeline id')}"


@_kept
def workflow(organisation_id: str, project_id: str, pipeline_id: str) -> str:
    """Key of a pipeline's nodes: `{nodeId: nodeConfig}`."""
    return f"{pipeline(organisation_id, project_id, pipeline_id)}:workflow"


@_kept
def target(organisation_id: str, project_id: str, pipeline_id: str, target_id: str) -> str:
    """Key of a target's document."""
    return f"{pipeline(organisation_id, project_id, pipeline_id)}:it:{identifier(target_id, 'target id')}"


@_kept
def connector(organisation_id: str, project_id: str, connector_id: str) -> str:
    """Key of a connector's document as stored, its credentials encrypted."""
    return f"{project(organisation_id, project_id)}:ic:{identifier(connector_id, 'connector id')}"


@_kept
def decrypted_connector(organisation_id: str, project_id: str, connector_id: str) -> str:
    """Key of a connector's document with its credentials decrypted, as `creds`."""
    return f"{connector(organisation_id, project_id, connector_id)}:decrypted"


@_kept
def organisation_secret(organisation_id: str) -> str:
    """Key of an organisation's secret, a bare string."""
    return f"{organisation(organisation_id)}:secret"


@_kept
def project_secret(organisation_id: str, project_id: str) -> str:
    """Key of a project's secret, a bare string."""
    return f"{project(organisation_id, project_id)}:secret"


def api_key(key: object) -> str:
    """Key of whom an API key belongs to. It holds the API key itself: never log it.

    Raises:
        InvalidIdentifierError: It cannot be an API key; the message does not show it.
    """
    if not isinstance(key, str) or len(key) > LONGEST_API_KEY or not _IDENTIFIER.fullmatch(key):
        raise InvalidIdentifierError("the API key is not a string of base64")
    return f"{PREFIX}apikey:{key}"


def lease(key: str) -> str:
    """Key of the lease to fill `key`. The braces keep both in one slot of a Redis Cluster."""
    return f"{{{key}}}:lease"


def leases_under(level: str) -> str:
    """How the leases of all keys below `level` begin."""
    return f"{{{level}:"


ORGANISATIONS = f"{PREFIX}org"
"""The level that holds all organisations; no key itself."""


def watch_lock(database: str) -> str:
    """Key of who watches a MongoDB database for all. The braces keep it in one slot with `watch_state`."""
    return f"{PREFIX}{{watch:{database}}}:lock"


def watch_state(database: str) -> str:
    """Key of how far watching a MongoDB database has come: the last term, and the resume token."""
    return f"{PREFIX}{{watch:{database}}}:state"
