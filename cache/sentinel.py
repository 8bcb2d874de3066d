"""One primary among servers that take over from each other: sentinels tell which it is, each time one connects."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelManagedConnection

from cache.addresses import Address, Node, SentinelTLSConnection
from cache.connections import POOL_WAIT_SHARE, ConfirmedPool

MOST_CONNECTIONS_TO_A_SENTINEL = 2
"""One question at a time, and one that was given up and is not over yet."""


class Sentinels(Sentinel):
    """Redis-py's client of sentinels, asking all at once.

    It asks one after the other, and each with ten retries: a sentinel that went down with the primary, as they like to
    do on one machine, would use up the time of every attempt to find the new one.

    Args:
        address: Of the sentinels.
        wait_seconds: How long to wait for a connection to one of them.
    """

    def __init__(self, address: Address, *, wait_seconds: float) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self.pools = [
            ConfirmedPool(
                wait_seconds=wait_seconds,
                most_connections=MOST_CONNECTIONS_TO_A_SENTINEL,
                host=node.host,
                port=node.port,
                **address.sentinel_options,
            )
            for node in address.nodes
        ]
        self.sentinels = [Redis(connection_pool=pool) for pool in self.pools]

    async def discover_master(self, service_name: str) -> Node:
        """Where the primary is.

        Raises:
            redis.asyncio.sentinel.MasterNotFoundError: No sentinel knows of one that is well.
        """
        asking = [asyncio.create_task(self._ask(sentinel, service_name)) for sentinel in self.sentinels]
        try:
            for answer in asyncio.as_completed(asking):
                found = await answer
                if found is not None:
                    return found
        finally:
            for question in asking:
                question.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        raise MasterNotFoundError("no sentinel knows of a primary that is well")

    async def _ask(self, sentinel: Redis, service_name: str) -> Node | None:
        try:
            states: Any = await sentinel.sentinel_masters()
            state: dict[str, Any] = states[service_name]
        except Exception:  # noqa: BLE001 a dead peer surfaces as any error; each means: ask the others
            return None
        # The one that is about to be replaced is named, too, until the new one has been chosen.
        well = self.check_master_state(state, service_name)
        return Node(state["ip"], state["port"]) if well else None


class SentinelPool(ConfirmedPool):
    """A pool of connections to the primary that sentinels name.

    Its connections are redis-py's: each asks `get_master_address` when it connects, and ends when the server turns out
    to be a primary no longer, which is an outage like another.

    Args:
        address: Of the sentinels.
        timeout: Seconds that an operation may take.
    """

    is_master = True
    check_connection = False  # `ConfirmedPool` does it

    def __init__(self, address: Address, *, timeout: float) -> None:
        wait_seconds = timeout * POOL_WAIT_SHARE
        by_tls = "shared_context" in address.options
        options = address.options | {
            "connection_class": SentinelTLSConnection if by_tls else SentinelManagedConnection,
            "connection_pool": weakref.proxy(self),
        }
        super().__init__(wait_seconds=wait_seconds, **options)
        self._service = address.service
        self._name = f"{address.service} of the sentinels {','.join(map(str, address.nodes))}"
        self._sentinels = Sentinels(address, wait_seconds=wait_seconds)
        self._finding: asyncio.Task[Node] | None = None

    def __repr__(self) -> str:
        return f"<SentinelPool {self._name}>"  # redis-py's shows the options, of which this pool is one

    @property
    def address(self) -> str:
        """The service, and where the sentinels are; no credentials, for logs."""
        return self._name

    async def get_master_address(self) -> Node:
        """Where the primary is now; one question to each sentinel, however many connections are being made."""
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(self._sentinels.discover_master(self._service))
            self._finding.add_done_callback(_looked_at)
        return await asyncio.shield(self._finding)

    async def aclose(self) -> None:
        """Close all connections, those to the sentinels as well."""
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)
        await asyncio.gather(super().aclose(), *(pool.aclose() for pool in self._sentinels.pools))


def _looked_at(finding: asyncio.Task[Any]) -> None:
    """Also where every caller has gone: asyncio complains otherwise."""
    if not finding.cancelled():
        finding.exception()
