"""The nodes of a Redis Cluster: a pool of connections to each, and which of them is the primary of which slots."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from cache.addresses import Address, Node
from cache.connections import POOL_WAIT_SHARE, ConfirmedPool, PoolExhaustedError

MOST_ASKED = 4
"""How many nodes are asked at once for the layout; the first good answer is taken."""

Word = bytes | str | int
Command = tuple[Word, ...]
Layout = tuple[tuple[int, int, Node], ...]
"""Which primary has which slots: first, last, where."""

Result = TypeVar("Result")


class NotAClusterError(RedisConnectionError):
    """A server that is asked for the layout of its cluster does not give it."""


class ClusterFailedError(RedisConnectionError):
    """The cluster says that it takes no commands."""


class Nodes:
    """A pool of connections to each node that is talked to.

    Args:
        address: Of some nodes, enough to find one that is up.
        timeout: Seconds that an operation may take.

    Attributes:
        seed: The pool of the first node that the address names; its `address` names them all.
    """

    def __init__(self, address: Address, *, timeout: float) -> None:
        self._seeds = address.nodes
        self._options: dict[str, Any] = {"wait_seconds": timeout * POOL_WAIT_SHARE, **address.options}
        self.seed: ConfirmedPool = _SeedPool(self._seeds, **self._options)
        self._pools: dict[Node, ConfirmedPool] = {self._seeds[0]: self.seed}

    async def exchange(self, node: Node, commands: Sequence[Command]) -> list[Any]:
        """The replies of `node` to `commands`, errors among them, all on one connection.

        Raises:
            redis.exceptions.RedisError: It cannot be talked to.
        """
        pool = self._pool(node)
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            return [await _reply(connection) for _ in commands]
        finally:
            await pool.release(connection)

    async def layout(self, known: Iterable[Node]) -> Layout:
        """The layout, as the first of some nodes gives it that says that all is well.

        Args:
            known: Nodes to ask, beside those that the address names.

        Raises:
            redis.exceptions.RedisError: None does; what one of them said or failed with.
        """
        candidates = tuple(dict.fromkeys((*known, *self._seeds)))
        asked = random.sample(candidates, min(len(candidates), MOST_ASKED))
        asking = [asyncio.create_task(self._layout_by(node)) for node in asked]
        failure: Exception = ClusterFailedError("no node can be asked")
        try:
            for answer in asyncio.as_completed(asking):
                try:
                    return await answer
                except Exception as error:  # noqa: BLE001 a dead peer surfaces as any error; each means: ask the others
                    # That we are busy is no fault of Redis, whatever else is.
                    failure = failure if isinstance(failure, PoolExhaustedError) else error
        finally:
            for question in asking:
                question.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        raise failure

    async def abandon_idle(self, besides: Iterable[Node] = ()) -> None:
        """Close the connections nobody uses, but for those to the nodes `besides`.

        The pools stay: a command may be under way, and an empty one costs next to nothing.
        """
        kept = frozenset(besides)
        for node, pool in tuple(self._pools.items()):
            if node not in kept:
                await pool.abandon_idle()

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(pool.aclose() for pool in self._pools.values()), return_exceptions=True)

    def _pool(self, node: Node) -> ConfirmedPool:
        pool = self._pools.get(node)
        if pool is None:
            pool = self._pools[node] = ConfirmedPool(host=node.host, port=node.port, **self._options)
        return pool

    async def _layout_by(self, node: Node) -> Layout:
        state, rows = await self.exchange(node, (("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")))
        if isinstance(state, ResponseError) or isinstance(rows, ResponseError):
            raise NotAClusterError("it does not tell of a cluster")
        if b"cluster_state:ok" not in state:  # also one that has lost sight of the others, and knows the past only
            raise ClusterFailedError("it takes no commands")
        # A row: first slot, last slot, [host, port, ...] of the primary, of its replicas. No host: the one asked.
        found = ((row[0], row[1], Node((row[2][0] or b"").decode() or node.host, row[2][1])) for row in rows)
        return tuple(sorted(found))


class _SeedPool(ConfirmedPool):
    """The pool of the first node that an address names."""

    def __init__(self, seeds: Sequence[Node], **options: Any) -> None:
        super().__init__(host=seeds[0].host, port=seeds[0].port, **options)
        self._name = f"the cluster of {','.join(map(str, seeds))}"

    @property
    def address(self) -> str:
        """All nodes that the address names; no credentials, for logs."""
        return self._name


def primaries(layout: Layout) -> tuple[Node, ...]:
    """The nodes of a layout, each once."""
    return tuple(dict.fromkeys(node for _, _, node in layout))


async def together(steps: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """What the steps give, taken at the same time; the first failure ends the others."""
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except ExceptionGroup as failures:
        failure = failures.exceptions[0]
    if failure is not None:  # raised out here, so that it keeps its own context, by which the log names it
        raise failure
    return [task.result() for task in tasks]


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
