"""Who an API key belongs to: three sealed layers, opened from the outside in.

    innermost = seal(NONCE_VALUE, project secret)
    middle    = seal(innermost + "|" + projectId, organisation secret)
    API key   = base64(seal(middle + "|" + organisationId, SEC_GLOBAL))

Opening the two outer layers names the secret that opens the next one; only the project's own secret yields the nonce.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cache.crypto import CredentialsError, DecryptionError, unseal
from cache.keys import InvalidIdentifierError, identifier


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom an API key belongs to."""

    organisation_id: str
    project_id: str


@dataclass(frozen=True, slots=True)
class Secrets:
    """What an API key is checked against.

    Attributes:
        sec_global: Opens the outermost layer.
        nonce_value: What the innermost layer holds.
        of_organisation: Gives an organisation's secret, None if there is no such organisation.
        of_project: Gives a project's secret, None if there is no such project.
    """

    sec_global: str
    nonce_value: str
    of_organisation: Callable[[str], Awaitable[str | None]]
    of_project: Callable[[str, str], Awaitable[str | None]]

    def __repr__(self) -> str:
        return "Secrets(...)"


async def owner_of(api_key: str, secrets: Secrets) -> Owner | None:
    """Whom `api_key` belongs to; None if it is none of ours.

    Raises:
        CredentialsError: A secret of ours cannot be opened, which says nothing about the API key.
    """
    try:
        return await _opened(api_key, secrets)
    except CredentialsError:
        raise
    except (DecryptionError, InvalidIdentifierError):
        return None


async def _opened(api_key: str, secrets: Secrets) -> Owner | None:
    for_organisation, organisation_id = _layer(_text(api_key), secrets.sec_global)
    organisation_secret = await secrets.of_organisation(organisation_id)
    if organisation_secret is None:
        return None
    for_project, project_id = _layer(for_organisation, organisation_secret)
    project_secret = await secrets.of_project(organisation_id, project_id)
    if project_secret is None:
        return None
    nonce = unseal(for_project, project_secret)
    # In constant time: how long a refusal takes must not tell how much of the nonce was right.
    right = hmac.compare_digest(nonce.encode(), secrets.nonce_value.encode())
    return Owner(organisation_id, project_id) if right else None


def _text(api_key: str) -> str:
    try:
        return b64decode(api_key, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise DecryptionError("it is not base64") from None


def _layer(sealed: str, secret: str) -> tuple[str, str]:
    """What is inside: the next layer, and the identifier of whose secret opens it."""
    inner, separator, owner = unseal(sealed, secret).rpartition("|")
    if not separator:
        raise DecryptionError("it names no owner")
    return inner, identifier(owner, "owner of an API key")
