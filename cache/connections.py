"""The one connection pool: bounded, never waiting long, handing out only connections that are confirmed healthy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from cache.addresses import Topology, parse

MOST_CONNECTIONS = 32
IDLE_SECONDS = 5.0
"""A connection unused for longer is asked with a PING before it is used: a firewall may have forgotten it."""

POOL_WAIT_SHARE = 0.4
"""How much of an operation's time may be spent waiting for a connection (measured: 0.1 s of 0.25 s)."""


class PoolExhaustedError(RedisError):
    """No connection became free in time: we are busy, which says nothing about Redis."""


class _Unhurried(AbstractConnection):
    """Sends without a time limit of its own: the budget of the operation is one (`cache/budget.py`).

    redis-py bounds every send with a task, which costs a sixth of a GET. It bounds reads for next to nothing, and that
    stays. To a connection without `socket_timeout` it sends at once, so this one has none while it sends; what is done
    about errors, and about a send that was broken off, is redis-py's own doing. Where no budget is (somebody asks for
    the layout of a cluster), nothing is lost: only what exceeds the socket's buffers waits, and that is a value.
    """

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002 redis-py's signature
        if not self.is_connected:  # it will connect first, which must not take for ever
            await super().send_packed_command(command, check_health)
            return
        seconds, self.socket_timeout = self.socket_timeout, None
        try:
            await super().send_packed_command(command, check_health)
        finally:
            self.socket_timeout = seconds


def _unhurried(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same kind of connection, over TCP, TLS or a unix socket, that sends without a time limit."""
    return type(connection_class.__name__, (_Unhurried, connection_class), {})


class ConfirmedPool(ConnectionPool):
    """A bounded pool whose connections have answered a PING: when they were made and whenever they have idled.

    redis-py's own blocking pool serves as well and costs a quarter of a GET: it takes an asynchronous lock to hand out
    and to take back. Here both are plain code, so that no cancellation can fall between and lose a connection.

    Args:
        wait_seconds: How long to wait for a connection when all are in use.
        most_connections: How many there may be.
        idle_seconds: After how long without use a connection is asked again.
        connection_class: redis-py's, over TCP, TLS or a unix socket.
        **options: As of redis-py's pool.
    """

    def __init__(
        self,
        *,
        wait_seconds: float,
        most_connections: int = MOST_CONNECTIONS,
        idle_seconds: float = IDLE_SECONDS,
        connection_class: type[AbstractConnection] = Connection,
        **options: Any,
    ) -> None:
        super().__init__(_unhurried(connection_class), max_connections=most_connections, **options)
        self._wait_seconds = wait_seconds
        self._idle_seconds = idle_seconds
        self._places = asyncio.Semaphore(most_connections)
        self._last_used: dict[AbstractConnection, float] = {}

    @property
    def address(self) -> str:
        """Where Redis is, `host:port` or the path of a socket; no credentials, for logs."""
        options = self.connection_kwargs
        return str(options["path"]) if "path" in options else f"{options['host']}:{options['port']}"

    async def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> AbstractConnection:  # noqa: ARG002 redis-py's signature
        """A connection that is known to be good.

        Raises:
            PoolExhaustedError: All are in use and none became free in time.
            redis.exceptions.RedisError: Redis cannot be reached, or refuses us.
        """
        await self._take_place()
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self._confirm(connection)
        except BaseException:  # cancelled, too: a connection that did not pass may not stay, nor its place be lost
            try:
                await connection.disconnect(nowait=True)
            finally:
                await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back. Nothing in here waits."""
        self._in_use_connections.discard(connection)
        self._available_connections.append(connection)
        self._last_used[connection] = time.monotonic()
        self._places.release()

    async def abandon_idle(self) -> None:
        """Close the connections nobody uses; the next use of one connects anew."""
        for connection in tuple(self._available_connections):
            await connection.disconnect(nowait=True)

    async def _take_place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise PoolExhaustedError("all connections are in use") from None

    async def _confirm(self, connection: AbstractConnection) -> None:
        # Something to read before anything was asked is the answer to an abandoned question, or the end of the stream.
        if connection.is_connected and not await connection.can_read():
            idle = time.monotonic() - self._last_used[connection]
            if idle < self._idle_seconds or await self._still_answers(connection):
                return
        await connection.disconnect(nowait=True)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except ResponseError as error:
            # Redis answered and will not let us in (no such database, client name not allowed): no use to any call.
            raise RedisConnectionError(f"Redis refused the connection: {type(error).__name__}") from error
        await _ping(connection)

    async def _still_answers(self, connection: AbstractConnection) -> bool:
        try:
            await _ping(connection)
        except (RedisError, OSError):
            return False
        return True


async def _ping(connection: AbstractConnection) -> None:
    """Return if the other side speaks Redis and takes commands.

    An error in answer will do: a server that refuses writes may refuse a PING with them (MISCONF), a user may not be
    allowed to (NOPERM), and reads work all the same. What ends a connection, such as NOAUTH or LOADING, is no
    `ResponseError` in redis-py.
    """
    await connection.send_command("PING", check_health=False)
    try:
        answer = await connection.read_response()
    except ResponseError:
        return
    if answer not in {b"PONG", "PONG"}:
        raise RedisConnectionError("the answer to a PING was no PONG")


def open_pool(url: str, *, timeout: float, client_name: str) -> ConfirmedPool:
    """A pool for one server, `redis://`, `rediss://` or `unix://`; nothing is connected yet.

    Args:
        url: Where Redis is; options in it that contradict the ones measured to be safe are overruled.
        timeout: Seconds for each connect, write and read.
        client_name: What Redis lists the connections as.

    Raises:
        ValueError: The address cannot be understood, or is not of one server; the message does not show it.
    """
    address = parse(url, timeout=timeout, client_name=client_name)
    if address.topology is not Topology.SERVER:
        raise ValueError("the address of Redis is not that of one server, which redis://, rediss:// or unix:// is")
    return ConfirmedPool(wait_seconds=timeout * POOL_WAIT_SHARE, **address.server_options)
