"""Sealing of what is secret in Redis: AES-256-GCM under keys of the operator's, bound to the key that it is stored at.

A sealed value is `sealed:<id of the sealing key>:` followed by base64(iv 12 bytes | ciphertext | tag 16 bytes). The
Redis key is the associated data, so that a value that was copied to another key does not open there.

What does not open is a miss, and is replaced by whoever read it: a fleet whose workers do not have the same keys at the
same moment is slower for it, and never wrong. While keys are being rolled out,

- a worker without the key of a value reads MongoDB and stores its own: in plain if it has no key at all. Those that
  have the key read that as well, so that each refill is replaced once at most;
- what was stored in plain stays so until its TTL is up: an hour after the last worker was given a key, Redis holds no
  secret in plain any more (invalidate the organisations to have it at once);
- a new key costs nothing if the fleet is given it behind the old one first, and in front of it afterwards. The old one
  can go when an hour, the TTL of what it sealed, has passed.
"""

from __future__ import annotations

import binascii
import logging
import os
from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

logger = logging.getLogger(__name__)

PREFIX = b"sealed:"
"""No value of the platform begins so: documents begin with a brace, and secrets hold no colon."""

IV_BYTES = 12
KEY_ID_CHARACTERS = 8


class SealError(ValueError):
    """A sealed value does not open: its key is not among ours, it was altered, or it belongs to another Redis key."""


class Sealer:
    """Seals with the first of its keys and opens with any: a new one is put in front, and old values still open.

    Args:
        secrets: The keys, newest first, as text of any length; none: nothing is sealed, and nothing sealed opens.

    The first value that does not open is logged, once for each of the two reasons there are; not what it holds.
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._ciphers = {_key_id(secret): AESGCM(_derived(secret)) for secret in secrets}
        self._newest = next(iter(self._ciphers), None)
        self._logged: set[str] = set()

    def __repr__(self) -> str:
        return f"<Sealer with {len(self._ciphers)} keys>"

    @property
    def active(self) -> bool:
        """Whether there is a key to seal with."""
        return self._newest is not None

    def seal(self, redis_key: str, value: bytes) -> bytes:
        """Seal a value that is to be stored at `redis_key`; as it is where there is no key to seal with."""
        if self._newest is None:
            return value
        iv = os.urandom(IV_BYTES)
        ciphertext = self._ciphers[self._newest].encrypt(iv, value, redis_key.encode())
        return PREFIX + self._newest + b":" + b64encode(iv + ciphertext)

    def open(self, redis_key: str, stored: bytes) -> bytes:
        """The value that was found at `redis_key`; one that was never sealed is given as it is.

        Raises:
            SealError: It is sealed and does not open here.
        """
        if not stored.startswith(PREFIX):
            return stored
        try:
            return self._opened(redis_key, stored)
        except SealError as error:
            self._log_once(redis_key, str(error))
            raise

    def _opened(self, redis_key: str, sealed: bytes) -> bytes:
        key_id, _, encoded = sealed.removeprefix(PREFIX).partition(b":")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealError("it is sealed under a key that is not among CACHE_SECRET_KEY's")
        try:
            content = b64decode(encoded, validate=True)
            return cipher.decrypt(content[:IV_BYTES], content[IV_BYTES:], redis_key.encode())
        except (InvalidTag, binascii.Error, ValueError):
            raise SealError("it was altered, or sealed for another key of Redis") from None

    def _log_once(self, redis_key: str, reason: str) -> None:
        if reason not in self._logged:
            self._logged.add(reason)
            logger.warning("%s in Redis does not open (%s); such values are read from MongoDB", redis_key, reason)


def _derived(secret: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"datanadhi cache sealing").derive(secret.encode())


def _key_id(secret: str) -> bytes:
    """What tells one key from another in a stored value; derived apart from the key, so it gives nothing away."""
    identity = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"datanadhi cache key id").derive(secret.encode())
    return sha256(identity).hexdigest()[:KEY_ID_CHARACTERS].encode()
