"""AES-256-GCM as the platform's servers write it: base64(iv 12 bytes | tag 16 bytes | ciphertext), key SHA-256(secret).

No associated data. Secrets and plaintexts are UTF-8.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode, b64encode
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

IV_BYTES = 12
TAG_BYTES = 16


class DecryptionError(ValueError):
    """Something sealed does not open under this secret. The message holds neither of them."""


class CredentialsError(DecryptionError):
    """Stored credentials or a stored secret cannot be used. The message names whose, and holds nothing of them."""


def seal(plaintext: str, secret: str) -> str:
    """Encrypt `plaintext` under `secret`, with a fresh random iv."""
    iv = os.urandom(IV_BYTES)
    sealed = _cipher(secret).encrypt(iv, plaintext.encode(), None)
    ciphertext, tag = sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]
    return b64encode(iv + tag + ciphertext).decode()


def unseal(sealed: str, secret: str) -> str:
    """Decrypt what `seal`, or one of the platform's servers, made.

    Raises:
        DecryptionError: It is not base64, too short, sealed under another secret, altered, or not text inside.
    """
    content = _decoded(sealed)
    iv, tag, ciphertext = content[:IV_BYTES], content[IV_BYTES : IV_BYTES + TAG_BYTES], content[IV_BYTES + TAG_BYTES :]
    try:
        return _cipher(secret).decrypt(iv, ciphertext + tag, None).decode()
    except InvalidTag:
        raise DecryptionError("it was sealed under another secret, or altered") from None
    except UnicodeDecodeError:
        # From None: that error carries the bytes it could not decode, which are the plaintext.
        raise DecryptionError("what it holds is not text") from None


def _decoded(sealed: str) -> bytes:
    try:
        content = b64decode(sealed, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise DecryptionError("it is not base64") from None
    if len(content) < IV_BYTES + TAG_BYTES:
        raise DecryptionError("it is too short to be sealed")
    return content


@lru_cache(maxsize=32)
def _cipher(secret: str) -> AESGCM:
    """The cipher for a secret; a worker knows one or two, and a secret for each organisation and project."""
    return AESGCM(sha256(secret.encode()).digest())
