"""Redis by its address, whatever the topology: one server, Sentinel or Cluster, behind one guard and one interface."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from cache import addresses
from cache.addresses import Topology
from cache.cluster import Cluster, ClusterGuard
from cache.cluster_nodes import Nodes
from cache.connections import POOL_WAIT_SHARE, ConfirmedPool
from cache.guard import Guard
from cache.sentinel import SentinelPool


class Server:
    """One server that has all keys. `Cluster` does the same with many.

    Args:
        execute: Runs a command there, given as its words.
        address: Where it is, without credentials, for people.
    """

    def __init__(self, execute: Callable[..., Coroutine[Any, Any, Any]], address: str) -> None:
        self.execute = execute
        self.address = address

    async def get_many(self, keys: Sequence[str]) -> Any:
        """The values of `keys`, in order; None where there is none or it is of another type."""
        return await self.execute("MGET", *keys)

    async def unlink(self, names: Sequence[str | bytes]) -> Any:
        """Delete `names`, in one step."""
        return await self.execute("UNLINK", *names)

    def primaries(self) -> list[Callable[..., Coroutine[Any, Any, Any]]]:
        """What executes a command without a key, at each server that has some."""
        return [self.execute]


def open_redis(
    url: str, *, timeout: float, client_name: str, first_cooldown: float, longest_cooldown: float
) -> tuple[Guard, Server | Cluster]:
    """The guard of what is at `url`, and what runs commands there; nothing is connected yet.

    Args:
        url: Where Redis is, in one of the forms of `cache/addresses.py`.
        timeout: Seconds that an operation may take.
        client_name: What Redis lists the connections as.
        first_cooldown: Seconds from a failure to the first attempt to reconnect.
        longest_cooldown: The most it grows to.

    Raises:
        ValueError: The address cannot be understood; the message does not show it.
    """
    address = addresses.parse(url, timeout=timeout, client_name=client_name)
    settings = {"timeout": timeout, "first_cooldown": first_cooldown, "longest_cooldown": longest_cooldown}
    if address.topology is Topology.CLUSTER:
        nodes = Nodes(address, timeout=timeout)
        cluster = Cluster(nodes)
        return ClusterGuard(nodes, cluster, **settings), cluster
    if address.topology is Topology.SENTINEL:
        pool: ConfirmedPool = SentinelPool(address, timeout=timeout)
    else:
        pool = ConfirmedPool(wait_seconds=timeout * POOL_WAIT_SHARE, **address.server_options)
    guard = Guard(pool, **settings)
    return guard, Server(guard.execute, pool.address)
