"""The process-wide Redis client: it never raises, never outlasts its budget, and leaves a Redis alone that fails."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from hashlib import sha1
from typing import Any, ClassVar

from redis.exceptions import NoScriptError

from cache.breaker import FIRST_COOLDOWN_SECONDS, LONGEST_COOLDOWN_SECONDS, Breaker, State
from cache.cluster_nodes import Layout
from cache.guard import READS, WRITES, Counters
from cache.keys import lease, leases_under
from cache.topologies import Server, open_redis

DEFAULT_TIMEOUT_SECONDS = 0.25
LONGEST_SCAN_SECONDS = 60.0
SCAN_COUNT = 1000
DELETE_BATCH = 500

_GLOB_CHARACTERS = re.compile(r"[*?\[\]^\\]")


class Script:
    """A Lua script, which Redis runs as one atomic step."""

    def __init__(self, body: str) -> None:
        self.body = body
        self.digest = sha1(body.encode(), usedforsecurity=False).hexdigest()


class RedisCache:
    """Redis as a best effort: what cannot be had at once is a miss.

    One instance a process: `configure` it at the start, get it with `instance` anywhere. What counts as a failure of
    Redis, and what does not, is in `cache/guard.py`; how it is left alone and found again, in `cache/breaker.py`.
    """

    _instance: ClassVar[RedisCache | None] = None

    def __init__(
        self,
        url: str,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        client_name: str = "datanadhi-worker",
        first_cooldown: float = FIRST_COOLDOWN_SECONDS,
        longest_cooldown: float = LONGEST_COOLDOWN_SECONDS,
    ) -> None:
        self._guard, self._servers = open_redis(
            url,
            timeout=timeout,
            client_name=client_name,
            first_cooldown=first_cooldown,
            longest_cooldown=longest_cooldown,
        )
        self._execute = self._servers.execute
        self.address = self._servers.address

    def __repr__(self) -> str:
        return f"<RedisCache {self.address} {self.state}>"

    @classmethod
    def configure(
        cls,
        url: str,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        client_name: str = "datanadhi-worker",
        first_cooldown: float = FIRST_COOLDOWN_SECONDS,
        longest_cooldown: float = LONGEST_COOLDOWN_SECONDS,
    ) -> RedisCache:
        """Make the process's one instance. Nothing is connected yet; the first operation does that.

        Args:
            url: Of one server, of sentinels or of a cluster, in one of the forms of `cache/addresses.py`.
            timeout: Seconds that an operation may take, connecting included.
            client_name: What Redis lists the connections as.
            first_cooldown: Seconds from a failure to the first attempt to reconnect.
            longest_cooldown: The most it grows to.

        Raises:
            RuntimeError: It has been made already.
            ValueError: The address cannot be understood; the message does not show it.
        """
        if cls._instance is not None:
            raise RuntimeError("the Redis cache is configured already; there is one a process")
        cls._instance = cls(
            url,
            timeout=timeout,
            client_name=client_name,
            first_cooldown=first_cooldown,
            longest_cooldown=longest_cooldown,
        )
        return cls._instance

    @classmethod
    def instance(cls) -> RedisCache:
        """The process's one instance.

        Raises:
            RuntimeError: It has not been configured.
        """
        if cls._instance is None:
            raise RuntimeError("the Redis cache is not configured")
        return cls._instance

    @classmethod
    async def reset(cls) -> None:
        """Close the process's instance, if there is one, and forget it."""
        instance, cls._instance = cls._instance, None
        if instance is not None:
            await instance.aclose()

    async def aclose(self) -> None:
        """Close all connections. Calls that come later return at once, having done nothing."""
        await self._guard.close()

    @property
    def state(self) -> State:
        """Closed: Redis is used; open: it failed and is left alone; half-open: it is being tried."""
        return self._guard.breaker.state

    @property
    def breaker(self) -> Breaker:
        """For inspection: outages, attempts to reconnect, calls that went without Redis."""
        return self._guard.breaker

    @property
    def counters(self) -> Counters:
        """For inspection: what went wrong, and what was not counted against Redis."""
        return self._guard.counters

    async def safe_get(self, key: str) -> bytes | None:
        """The value of `key`; None if there is none, or it cannot be had."""
        reply = await self._guard.attempt(READS, self._execute, "GET", key)
        return reply if isinstance(reply, bytes) else None

    async def safe_get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of `keys`, in order, as `safe_get` would give them."""
        reply = await self._guard.attempt(READS, self._servers.get_many, keys) if keys else None
        return reply if isinstance(reply, list) else [None] * len(keys)

    async def safe_set(self, key: str, value: bytes | str, ttl_seconds: int) -> bool:
        """Set `key` for `ttl_seconds`; whether that was done."""
        return bool(await self._guard.attempt(WRITES, self._execute, "SET", key, value, "EX", ttl_seconds))

    async def delete(self, *keys: str) -> bool:
        """Delete `keys`, each in one step with the lease to fill it; whether that was done."""
        return await self._unlink([name for key in keys for name in (key, lease(key))])

    async def delete_under(self, level: str) -> bool:
        """Delete the key `level` and all below it (`level:...`); whether that was done, all of it.

        Each of its commands is within the budget; there are as many as it takes to scan the whole database, twice.
        The leases go first, or a fill under way could store its value in a part that the scan has passed already.
        In a cluster every primary is scanned; if keys changed hands meanwhile, some may have evaded all scans.
        """
        before = await self._layout()
        return (
            before is not None
            and await self.delete(level)
            and await self._delete_beginning(leases_under(level))
            and await self._delete_beginning(f"{level}:")
            and before == await self._layout()
        )

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        """Run a script that may write; its reply, or None if it could not be run."""
        return await self._guard.attempt(WRITES, self._evaluate, script, keys, arguments)

    async def _layout(self) -> Layout | None:
        """Who has which keys; None if it cannot be had."""
        if isinstance(self._servers, Server):
            return ()  # and nobody need be asked
        layout: Layout | None = await self._guard.attempt(READS, self._servers.layout)
        return layout

    async def _evaluate(self, script: Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        try:
            return await self._execute("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except NoScriptError:  # a server that was restarted; this teaches it the script as well
            return await self._execute("EVAL", script.body, len(keys), *keys, *arguments)

    async def _delete_beginning(self, beginning: str) -> bool:
        """Delete all keys that begin so, at every server that has some."""
        pattern = _GLOB_CHARACTERS.sub(r"\\\g<0>", beginning) + "*"
        return all(await asyncio.gather(*(self._delete_like(pattern, at) for at in self._servers.primaries())))

    async def _delete_like(self, pattern: str, execute: Callable[..., Coroutine[Any, Any, Any]]) -> bool:
        """Delete one server's keys of a pattern, found with SCAN, which never blocks the server as KEYS does."""
        cursor, give_up_at = 0, time.monotonic() + LONGEST_SCAN_SECONDS
        while time.monotonic() < give_up_at:
            command = ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
            reply = await self._guard.attempt(READS, execute, *command)
            if reply is None or not await self._unlink(reply[1]):
                return False
            cursor = int(reply[0])
            if cursor == 0:
                return True
        return False

    async def _unlink(self, names: Sequence[str | bytes]) -> bool:
        for start in range(0, len(names), DELETE_BATCH):
            batch = names[start : start + DELETE_BATCH]
            if await self._guard.attempt(WRITES, self._servers.unlink, batch) is None:
                return False
        return True
