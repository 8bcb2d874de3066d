"""Ciphertexts as the platform's Node.js servers wrote them open here, and the other way round by format."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cache.crypto import seal, unseal

VECTORS: list[dict[str, str]] = json.loads(
    (Path(__file__).parents[1] / "data" / "contract" / "aes_gcm.json").read_text()
)["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["secret"][:16])
def test_what_the_servers_sealed_opens(vector: dict[str, str]) -> None:
    assert unseal(vector["sealed"], vector["secret"]) == vector["plaintext"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["secret"][:16])
def test_what_is_sealed_here_has_the_servers_format(vector: dict[str, str]) -> None:
    """Taken apart as the format says: iv 12 bytes, tag 16 bytes, ciphertext; key SHA-256 of the secret."""
    content = b64decode(seal(vector["plaintext"], vector["secret"]))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(vector["secret"].encode())
    opening = Cipher(algorithms.AES256(digest.finalize()), modes.GCM(content[:12], content[12:28])).decryptor()
    assert (opening.update(content[28:]) + opening.finalize()).decode() == vector["plaintext"]


def test_the_platforms_own_credentials_and_secrets_open(platform: dict[str, Any]) -> None:
    sec_db = platform["env"]["SEC_DB"]
    collections = platform["collections"]
    connector = collections["IntegrationConnectors"][0]
    assert json.loads(unseal(connector["encryptedCredentials"], sec_db)) == {"slackBotToken": "xoxb-held-out"}
    organisation = collections["Organisations"][0]
    cached = platform["redis"][f"datanadhiserver:org:{organisation['organisationId']}:secret"]["value"]
    assert unseal(organisation["organisationSecretEncrypted"], sec_db) == cached
