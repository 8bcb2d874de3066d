"""Redis Cluster as one Redis: each command goes to the primary of its key's slot, and one breaker is in front of all.

redis-py's own cluster client does not hold what this cache promises, so only its connections are used: it raises when
all connections of a node are in use, does not notice that idle ones have died, drops the good connections to every node
when one fails, sleeps 0.25 s where a cluster is down, and each time it looks for the nodes asks one for the description
of all commands (50 ms in which the event loop stands still).

The cluster counts as well while a node says `cluster_state:ok` and every primary answers. Where one does not, the
breaker is open for all of them until its replica has taken over: some seconds without the cache, on MongoDB.
Like every command, a deletion is lost if a primary dies before its replica heard of it: the TTL ends what it left.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from cache.addresses import Node
from cache.cluster_nodes import ClusterFailedError, Command, Layout, Nodes, Word, primaries, together
from cache.guard import Guard

MOST_REDIRECTIONS = 3

LOOK_SECONDS = 1.0
"""The least time between two looks at the layout that redirections ask for."""


class Cluster:
    """Runs commands in a cluster; does with many servers what `cache.topologies.Server` does with one.

    Args:
        nodes: Its nodes.

    Attributes:
        address: Some of its nodes, without credentials, for people.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.address = nodes.seed.address
        self._nodes = nodes
        self._layout: Layout = ()
        self._owners: list[Node | None] = []
        self._looking: asyncio.Task[Layout] | None = None
        self._looked_at = 0.0

    async def execute(self, *words: Word) -> Any:
        """The reply to a command, from whoever has its key. PING has none: it finds the nodes anew and asks them all.

        Raises:
            redis.exceptions.RedisError: There is none to be had, or it is an error.
        """
        if words[0] == "PING":
            return await self._revive()
        await self._known()
        node = self._owner(words)
        replies = await self._nodes.exchange(node, (words,))
        return _checked(await self._followed(words, node, replies[0]))

    async def get_many(self, keys: Sequence[str]) -> list[Any]:
        """The values of `keys`, in order; None where there is none or it is of another type, as MGET has it."""
        replies = await self._execute_each([("GET", key) for key in keys])
        return [None if _is_wrong_type(reply) else _checked(reply) for reply in replies]

    async def unlink(self, names: Sequence[str | bytes]) -> int:
        """Delete `names`, those of one slot in one step; how many there were.

        While a slot is being moved, no command takes two of its keys; then they go one by one, the last first: a key's
        lease, which follows it, must go before it does.
        """
        by_slot: defaultdict[int, list[Word]] = defaultdict(list)
        for name in names:
            by_slot[_slot(name)].append(name)
        commands: list[Command] = [("UNLINK", *of_one_slot) for of_one_slot in by_slot.values()]
        deleted = 0
        for words, reply in zip(commands, await self._execute_each(commands), strict=True):
            if isinstance(reply, TryAgainError):
                deleted += sum([await self.execute("UNLINK", name) for name in reversed(words[1:])])
            else:
                deleted += _checked(reply)
        return deleted

    async def layout(self) -> Layout:
        """Who has which slots, as of now."""
        self._looked_at = time.monotonic()
        found = await self._nodes.layout(primaries(self._layout))
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, node in found:
            owners[first : last + 1] = [node] * (last + 1 - first)
        self._layout, self._owners = found, owners
        await self._nodes.abandon_idle(besides=primaries(found))
        return found

    def primaries(self) -> list[Callable[..., Coroutine[Any, Any, Any]]]:
        """What executes a command at each of the primaries of the last layout, for commands without a key."""
        return [self._at(node) for node in primaries(self._layout)]

    async def aclose(self) -> None:
        """Close all connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._nodes.aclose()

    def _at(self, node: Node) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def execute(*words: Word) -> Any:
            return _checked((await self._nodes.exchange(node, (words,)))[0])

        return execute

    async def _revive(self) -> bytes:
        await self._nodes.abandon_idle()
        await together(self._nodes.exchange(node, (("PING",),)) for node in primaries(await self.layout()))
        return b"PONG"

    async def _execute_each(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, errors among them, in order: one conversation with each node, all at once."""
        await self._known()
        places: defaultdict[Node, list[int]] = defaultdict(list)
        for place, words in enumerate(commands):
            places[self._owner(words)].append(place)
        replies: dict[int, Any] = {}

        async def converse(node: Node, at: list[int]) -> None:
            answers = await self._nodes.exchange(node, [commands[place] for place in at])
            for place, answer in zip(at, answers, strict=True):
                replies[place] = await self._followed(commands[place], node, answer)

        await together(converse(node, at) for node, at in places.items())
        return [replies[place] for place in range(len(commands))]

    async def _followed(self, words: Command, node: Node, reply: Any) -> Any:
        """The reply, from where it redirects to if it does."""
        for _ in range(MOST_REDIRECTIONS):
            if not isinstance(reply, AskError):  # of which MovedError is a kind
                break
            node = Node(reply.host or node.host, reply.port)
            if isinstance(reply, MovedError):
                self._owners[reply.slot_id] = node
                self._look_again()
                reply = (await self._nodes.exchange(node, (words,)))[0]
            else:  # the slot is being moved, and this key has been already
                reply = (await self._nodes.exchange(node, (("ASKING",), words)))[1]
        return reply

    def _owner(self, words: Command) -> Node:
        node = self._owners[_slot(_key(words))]
        if node is None:
            self._look_again()
            raise ClusterDownError("Hash slot not served")
        return node

    async def _known(self) -> None:
        """Return once the layout is known; one look, however many wait for it."""
        if not self._owners:
            await asyncio.shield(self._look())

    def _look_again(self) -> None:
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._look()

    def _look(self) -> asyncio.Task[Layout]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self.layout())
            # Looked at, also where nobody waits for it: asyncio complains otherwise.
            self._looking.add_done_callback(lambda look: look.cancelled() or look.exception())
        return self._looking


class ClusterGuard(Guard):
    """A guard of all nodes of a cluster."""

    def __init__(
        self, nodes: Nodes, cluster: Cluster, *, timeout: float, first_cooldown: float, longest_cooldown: float
    ) -> None:
        super().__init__(nodes.seed, timeout=timeout, first_cooldown=first_cooldown, longest_cooldown=longest_cooldown)
        self.execute = cluster.execute
        self._cluster = cluster

    async def close(self) -> None:
        """End what is under way and close the connections to all nodes."""
        await super().close()
        await self._cluster.aclose()


def _key(words: Command) -> Word:
    return words[3] if words[0] in {"EVAL", "EVALSHA"} else words[1]


def _slot(key: Word) -> int:
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def _is_wrong_type(reply: Any) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")


def _checked(reply: Any) -> Any:
    """The reply, if it is no error."""
    if isinstance(reply, ClusterDownError) and "slot" not in str(reply):
        raise ClusterFailedError("it takes no commands")
    if isinstance(reply, ResponseError):
        raise reply
    return reply
