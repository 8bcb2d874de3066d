"""Redis Cluster and Sentinel out of real servers, and TLS in front of one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from workers.embedded.processes import start
from workers.embedded.servers import LOOPBACK, Server, free_port, running, start_valkey, valkey_executable

SLOTS = 16384
SERVICE = "main"
NODE_TIMEOUT_MILLISECONDS = 1000
AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""A primary waits 5 s for more replicas before it serves the first, if it is not told otherwise."""


@dataclass(frozen=True)
class ClusterServers:
    """The servers of a cluster: primaries, then replicas; the first replica follows the first primary, and so on."""

    primaries: list[Server]
    replicas: list[Server]

    @property
    def addresses(self) -> str:
        """All primaries, as an address of Redis names them."""
        return ",".join(server.address for server in self.primaries)


def client(server: Server, **options: Any) -> Redis:
    """An ordinary client of one server, which follows no redirections."""
    return Redis(host=server.host, port=server.port, protocol=2, **options)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the servers have agreed on something; they announce it to nobody, so they are asked."""
    while not await holds():  # noqa: ASYNC110 what happens in servers sets no event here
        await asyncio.sleep(0.05)


@asynccontextmanager
async def cluster(folder: Path, *, replicas: int = 0, options: Sequence[str] = ()) -> AsyncIterator[ClusterServers]:
    """A cluster of three primaries, of which the first ones have a replica each, that says it is well."""
    async with AsyncExitStack() as stack:
        # Of a node's own choice the bus is 10,000 above its port, which may be beyond the highest.
        buses = [free_port() for _ in range(3 + replicas)]
        servers = [
            await stack.enter_async_context(running(_start_node(folder / str(number), bus, options)))
            for number, bus in enumerate(buses)
        ]
        clients = [await stack.enter_async_context(client(server)) for server in servers]
        bounds = [0, SLOTS // 3, 2 * SLOTS // 3, SLOTS]
        for number, node in enumerate(clients):
            await node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            await node.execute_command("CLUSTER", "MEET", LOOPBACK, servers[0].port, buses[0])
        for number, node in enumerate(clients[:3]):
            await node.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        await until(lambda: _all_well(clients))
        for primary, replica in zip(clients, clients[3:], strict=False):
            await replica.execute_command("CLUSTER", "REPLICATE", await node_id(primary))
            await until(lambda replica=replica: _follows(replica))
        yield ClusterServers(servers[:3], servers[3:])


async def _start_node(folder: Path, bus: int, options: Sequence[str]) -> Server:
    timing = ("--cluster-port", str(bus), "--cluster-node-timeout", str(NODE_TIMEOUT_MILLISECONDS))
    return await start_valkey(folder, options=("--cluster-enabled", "yes", *timing, *AT_ONCE, *options))


async def _all_well(clients: Sequence[Redis]) -> bool:
    states = [await node.execute_command("CLUSTER INFO") for node in clients]
    return all(state["cluster_state"] == "ok" and int(state["cluster_known_nodes"]) == len(clients) for state in states)


async def _follows(replica: Redis) -> bool:
    state = await replica.info("replication")
    return state["role"] == "slave" and state["master_link_status"] == "up"


async def node_id(node: Redis) -> str:
    """What the cluster calls a node."""
    return (await node.execute_command("CLUSTER MYID")).decode()


@dataclass(frozen=True)
class SentinelServers:
    """A primary, its replica and the sentinels that watch over both."""

    primary: Server
    replica: Server
    sentinels: list[Server]

    @property
    def addresses(self) -> str:
        """All sentinels, as an address of Redis names them."""
        return ",".join(server.address for server in self.sentinels)


@asynccontextmanager
async def sentinels(
    folder: Path, *, count: int = 3, options: Sequence[str] = (), settings: str = ""
) -> AsyncIterator[SentinelServers]:
    """A primary and a replica, which sentinels that know each other watch over.

    Args:
        folder: Where they work.
        count: How many sentinels.
        options: Of the primary and the replica.
        settings: More lines for the configuration of the sentinels.
    """
    async with AsyncExitStack() as stack:
        alone = (*AT_ONCE, *options)
        primary = await stack.enter_async_context(running(start_valkey(folder / "primary", options=alone)))
        following = ("--replicaof", f"{LOOPBACK} {primary.port}", *alone)
        replica = await stack.enter_async_context(running(start_valkey(folder / "replica", options=following)))
        watching = [
            await stack.enter_async_context(running(_start_sentinel(folder / f"sentinel{number}", primary, settings)))
            for number in range(count)
        ]
        clients = [await stack.enter_async_context(client(sentinel)) for sentinel in watching]
        for sentinel in clients:  # they look at what they watch every 10 s, if they are not told otherwise
            await sentinel.execute_command("SENTINEL", "DEBUG", "INFO-PERIOD", 500, "PUBLISH-PERIOD", 200)
        await until(lambda: _watched(clients))
        yield SentinelServers(primary, replica, watching)


async def _start_sentinel(folder: Path, primary: Server, settings: str) -> Server:
    folder.mkdir()
    configuration = folder / "sentinel.conf"
    configuration.write_text(
        f"sentinel monitor {SERVICE} {LOOPBACK} {primary.port} 2\n"
        f"sentinel down-after-milliseconds {SERVICE} 500\n"
        f"sentinel failover-timeout {SERVICE} 3000\n{settings}"
    )
    binary = valkey_executable()
    return await start(
        "sentinel",
        lambda port: [binary, str(configuration), "--sentinel", "--port", str(port), "--bind", LOOPBACK],
        folder,
    )


async def _watched(clients: Sequence[Redis]) -> bool:
    for sentinel in clients:
        state = (await sentinel.sentinel_masters())[SERVICE]
        replicas = await sentinel.sentinel_slaves(SERVICE)
        linked = [replica for replica in replicas if replica["master-link-status"] == "ok"]
        if state["num-other-sentinels"] < len(clients) - 1 or not linked:
            return False
    return True


@asynccontextmanager
async def behind_tls(server: Server, certificate: Path, key: Path) -> AsyncIterator[int]:
    """A port on loopback that speaks TLS and passes on to `server`: the wheel's Valkey knows no TLS itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    sessions: set[asyncio.Task[Any]] = set()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sessions.add(asyncio.current_task())
        inner_reader, inner_writer = await asyncio.open_connection(server.host, server.port)
        try:
            await asyncio.gather(_pass_on(reader, inner_writer), _pass_on(inner_reader, writer))
        finally:
            for one in (writer, inner_writer):
                one.transport.abort()

    listener = await asyncio.start_server(session, LOOPBACK, 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for one in sessions:
            one.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)
        await listener.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # one side has gone; so goes the other
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
