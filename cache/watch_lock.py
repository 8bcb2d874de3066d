"""Which worker of the fleet watches MongoDB: a lock in Redis with a fencing number, and the resume token beside it.

Each time the lock is taken the number rises, and it is a part of the lock's value. Renewing, advancing the token and
releasing compare that value in the same atomic step: a worker that has slept through its time changes nothing any more.

The token tells up to where this Redis has seen its deletes, so it is kept in this Redis and nowhere else: one that
comes back from a snapshot, or with nothing, comes back with the token to match. Advancing compares the token, too:
another one than was left there says that the data is not what it was, and watching goes on from that other one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cache import keys
from cache.redis_cache import RedisCache, Script

RENEWALS_A_LIFETIME = 4
"""How often a lock is renewed in the time that it would live without."""

_DONE = 1

# A holder of our own is a term of ours that could not be released while Redis was away.
_ACQUIRE = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and string.sub(holder, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
local term = redis.call('HINCRBY', KEYS[2], 'term', 1)
redis.call('SET', KEYS[1], ARGV[1] .. term, 'PX', ARGV[2])
return {term, redis.call('HGET', KEYS[2], 'token')}
""")

_RENEW = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

_ADVANCE = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[2], 'token') or '') ~= ARGV[3] then return 0 end
if ARGV[4] ~= ARGV[3] then redis.call('HSET', KEYS[2], 'token', ARGV[4]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

_RELEASE = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")


class WatchLock:
    """The right to watch a database for the whole fleet.

    Args:
        redis: The process's Redis client.
        database: Name of the MongoDB database that is watched.
        seconds: How long the lock outlives a holder that does not renew it.

    Attributes:
        term: The fencing number that the lock was last taken with.
        token: The resume token that Redis holds, as far as is known; empty where there is none.
    """

    def __init__(self, redis: RedisCache, database: str, *, seconds: float) -> None:
        self.term = 0
        self.token = b""
        self._redis = redis
        self._keys = (keys.watch_lock(database), keys.watch_state(database))
        self._seconds = seconds
        self._owner = f"{secrets.token_hex(8)}:"

    async def acquire(self) -> bool:
        """Take the lock, and with it the token; whether that was done."""
        reply = await self._redis.run(_ACQUIRE, self._keys, (self._owner, self._milliseconds))
        if not isinstance(reply, list):
            return False
        self.term, self.token = reply[0], reply[1] or b""
        return True

    async def advance(self, token: bytes) -> bool | None:
        """Store the token, and renew the lock. False: it is held no more; None: Redis is away, nobody can tell."""
        reply = await self._redis.run(_ADVANCE, self._keys, (*self._held, self.token, token))
        if reply == _DONE:
            self.token = token
        return None if reply is None else reply == _DONE

    async def release(self) -> None:
        """Leave the lock to whoever wants it next; does nothing if it is held no more."""
        await self._redis.run(_RELEASE, self._keys, self._held)

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        """Renew the lock in the background for the length of a `with` block, however long its steps take.

        That it was lost all the same is found out by `advance`.
        """
        renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    @property
    def _milliseconds(self) -> int:
        return int(self._seconds * 1000)

    @property
    def _held(self) -> tuple[str, int]:
        """The lock's value in this term, and how long it lives."""
        return f"{self._owner}{self.term}", self._milliseconds

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / RENEWALS_A_LIFETIME)
            await self._redis.run(_RENEW, self._keys, self._held)
