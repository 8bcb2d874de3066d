"""Leases: a value read from MongoDB before an invalidation cannot be stored in Redis after it.

Whoever is about to read MongoDB leaves a random token beside the key first, and stores what it read only if the token
still stands; an invalidation deletes key and token in one step (`RedisCache.delete`). The last to ask holds the lease,
so that nobody waits for a process that died; and what another one stored meanwhile is newer, and stays.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from cache.keys import lease
from cache.redis_cache import RedisCache, Script

LEASE_MILLISECONDS = 10_000
"""Longer than a read of MongoDB may take; a fill that comes later is refused."""

_GRANTED = 1

# pcall: what is stored may be of another type than a string; that is a miss as well.
_TAKE = Script("""
if ARGV[3] == 'replace' then
  redis.call('DEL', KEYS[1])
else
  local value = redis.pcall('GET', KEYS[1])
  if type(value) == 'string' then return value end
  if value then redis.call('DEL', KEYS[1]) end
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
""")

_FILL = Script("""
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
if redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3], 'NX') then return 1 end
return 0
""")


@dataclass(frozen=True, slots=True)
class Lease:
    """What asking for a lease gave.

    Attributes:
        token: The right to fill the key; None where there is none, for Redis is away or holds a value.
        value: The value that Redis holds after all.
    """

    token: str | None = None
    value: bytes | None = None


async def take(redis: RedisCache, key: str, *, replace: bool) -> Lease:
    """Ask to fill `key`.

    Args:
        redis: Where.
        key: What is about to be read from MongoDB.
        replace: Whether a value it has is of no use: it is deleted then. Otherwise the value is the answer.
    """
    token = secrets.token_hex(8)
    how = "replace" if replace else "keep"
    reply = await redis.run(_TAKE, (key, lease(key)), (token, LEASE_MILLISECONDS, how))
    if isinstance(reply, bytes):
        return Lease(value=reply)
    return Lease(token=token if reply == _GRANTED else None)


async def fill(redis: RedisCache, key: str, token: str, value: bytes, ttl_seconds: int) -> bool | None:
    """Store `value` if the lease stands; None if Redis is away, so that nobody can tell."""
    reply = await redis.run(_FILL, (key, lease(key)), (token, value, ttl_seconds))
    return None if reply is None else reply == _GRANTED
