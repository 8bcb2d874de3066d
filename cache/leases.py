"""Leases: a value read from MongoDB before an invalidation cannot be stored in Redis after it.

Whoever is about to read MongoDB leaves a random token beside the key first, and stores what it read only if the token
still stands; an invalidation deletes key and token in one step (`RedisCache.delete`). The last to ask holds the lease,
so that nobody waits for a process that died; and what another one stored meanwhile is newer, and stays.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum

from cache.keys import lease as lease_key
from cache.redis_cache import RedisCache, Script

LEASE_MILLISECONDS = 10_000
"""Longer than a read of MongoDB may take; a fill that comes later is refused."""

_GRANTED = 1


class Present(StrEnum):
    """What becomes of a value that the key has when somebody is about to read MongoDB."""

    ANSWERS = "answers"
    """It is what was looked for, and MongoDB need not be read."""

    GOES = "goes"
    """It is of no use, and deleted at once."""

    STAYS = "stays"
    """Others may use it until the new one is stored over it: MongoDB may turn out to be away."""


# pcall: what is stored may be of another type than a string; that is a miss as well.
_TAKE = Script("""
local present = redis.pcall('GET', KEYS[1])
if type(present) == 'string' and ARGV[3] == 'answers' then return present end
if present and (type(present) ~= 'string' or ARGV[3] == 'goes') then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
""")

_FILL = Script("""
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
if ARGV[4] ~= 'stays' and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
""")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to fill a key, or the value that Redis holds after all.

    Attributes:
        token: What says that the lease still stands.
        present: What becomes of a value that the key has.
        value: That value, where it is the answer; the lease is not granted then.
    """

    token: str
    present: Present
    value: bytes | None = None


async def take(redis: RedisCache, key: str, present: Present) -> Lease | None:
    """Ask to fill `key`; None if Redis is away.

    Args:
        redis: Where.
        key: What is about to be read from MongoDB.
        present: What becomes of a value it has.
    """
    token = secrets.token_hex(8)
    reply = await redis.run(_TAKE, (key, lease_key(key)), (token, LEASE_MILLISECONDS, present))
    if isinstance(reply, bytes):
        return Lease(token, present, reply)
    return Lease(token, present) if reply == _GRANTED else None


async def fill(redis: RedisCache, key: str, lease: Lease, value: bytes, ttl_seconds: int) -> bool | None:
    """Store `value` if the lease stands; None if Redis is away, so that nobody can tell."""
    reply = await redis.run(_FILL, (key, lease_key(key)), (lease.token, value, ttl_seconds, lease.present))
    return None if reply is None else reply == _GRANTED
