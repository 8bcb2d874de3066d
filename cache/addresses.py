"""Where Redis is: every form of its address, and the options that each connection is made with.

    redis://[user:password@]host[:port][/database]              one server
    rediss://[user:password@]host[:port][/database]             one server, by TLS
    unix://[user:password@]/path[?db=database]                  one server, by its socket
    redis+cluster://[user:password@]host[:port],...             Redis Cluster, found by any of its nodes
    redis+sentinel://[user:password@]host[:port],.../service[/database]    the primary that the sentinels name
    rediss+cluster://, rediss+sentinel://                       the same, by TLS

User and password are Redis's own; those of the sentinels are `?sentinel_username=...&sentinel_password=...`. Options of
redis-py follow as a query, such as `?ssl_ca_certs=/path/to/ca.pem`.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelManagedSSLConnection
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

_AUTHORITY = re.compile(
    r"(?P<scheme>[a-z]+)(\+(?P<topology>[a-z]+))?://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>.*)"
)

_OVERRULED = ("max_connections", "timeout", "retry_on_timeout", "decode_responses", "encoding")
"""Options in an address that contradict what was measured to be safe, beside those that are always set."""


class Topology(StrEnum):
    """How the servers belong together."""

    SERVER = "server"
    CLUSTER = "cluster"
    SENTINEL = "sentinel"


_DEFAULT_PORTS = {Topology.SERVER: 6379, Topology.CLUSTER: 6379, Topology.SENTINEL: 26379}


class Node(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """An address of Redis, understood.

    Attributes:
        topology: How the servers belong together.
        nodes: The servers that are named: nodes of a cluster, or sentinels; none for a socket.
        service: What the sentinels call the primary; empty for other topologies.
        options: What redis-py's connections to Redis are made with, without host and port of a node.
        sentinel_options: The same for connections to sentinels.
    """

    topology: Topology
    nodes: tuple[Node, ...]
    service: str
    options: dict[str, Any] = field(repr=False)
    sentinel_options: dict[str, Any] = field(repr=False)

    @property
    def server_options(self) -> dict[str, Any]:
        """The options for the one server that it names."""
        return self.options | {name: value for node in self.nodes for name, value in node._asdict().items()}


class _SharedContext(SSLConnection):
    """TLS with one context for all connections.

    redis-py makes one for each connection object, which reads all authorities that the system trusts: over 20 ms in
    which the event loop stands still, 32 times.
    """

    def __init__(self, *, shared_context: Any, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = shared_context


class TLSConnection(_SharedContext):
    """A connection to a server by TLS."""


class SentinelTLSConnection(_SharedContext, SentinelManagedSSLConnection):
    """A connection by TLS to the primary that sentinels name."""


class SocketConnection(UnixDomainSocketConnection):
    """A connection by a unix socket that introduces itself once.

    redis-py's does so twice, and the first time takes any refusal, such as of a password, for a lost connection.
    """

    async def _connect(self) -> None:
        async with asyncio.timeout(self.socket_connect_timeout):
            self._reader, self._writer = await asyncio.open_unix_connection(path=self.path)


def parse(url: str, *, timeout: float, client_name: str) -> Address:
    """Understand an address; nothing is connected.

    Args:
        url: In one of the forms above.
        timeout: Seconds for each connect, write and read.
        client_name: What Redis lists the connections as.

    Raises:
        ValueError: It cannot be understood, or its options cannot be used; the message does not show it.
    """
    try:
        return _parsed(url, {"client_name": client_name} | _always(timeout))
    except (ValueError, TypeError, OSError, RedisError) as error:
        # From None: the error quotes a part of the address, which may be one of the password.
        raise ValueError(
            "the address of Redis cannot be understood, or its options cannot be used "
            f"({type(error).__name__}); redis://, rediss://, unix://, redis+cluster://host:port,... "
            "and redis+sentinel://host:port,.../service/database can"
        ) from None


def _always(timeout: float) -> dict[str, Any]:
    """What every connection is made with, to whichever server."""
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "driver_info": None,
        # Every server and proxy speaks RESP2, and with it idle connections survive a restart of the server.
        "protocol": 2,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _parsed(url: str, always: dict[str, Any]) -> Address:
    parts = _AUTHORITY.fullmatch(url)
    if parts is None:
        raise ValueError("no address")
    topology = Topology(parts["topology"] or "server")
    if topology is Topology.SERVER:
        options: dict[str, Any] = dict(parse_url(url)) | always
        server = () if "path" in options else (Node(options.pop("host", "localhost"), options.pop("port", 6379)),)
        return Address(topology, server, "", _usable(options), {})
    credentials, at, hosts = parts["authority"].rpartition("@")
    nodes = tuple(_node(host, _DEFAULT_PORTS[topology]) for host in hosts.split(","))
    # The query and the credentials are understood as redis-py does, by showing it an address with one host.
    options = dict(parse_url(f"{parts['scheme']}://{credentials}{at}host{parts['query']}"))
    if options.pop("host", None) is None:
        raise ValueError("no host")  # a socket is one server's
    service, _, database = parts["path"].removeprefix("/").partition("/")
    if topology is Topology.CLUSTER:
        if service not in {"", "0"} or database or options.get("db"):
            raise ValueError("a cluster has one database")
        return Address(topology, nodes, "", _usable(options | always), {})
    return _sentinel(nodes, unquote(service), options | ({"db": int(database)} if database else {}), always)


def _sentinel(nodes: tuple[Node, ...], service: str, options: dict[str, Any], always: dict[str, Any]) -> Address:
    if not service:
        raise ValueError("no service")
    own = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    usable = _usable(options | always)
    shared = {name: usable[name] for name in ("connection_class", "shared_context") if name in usable}
    # Sentinels before 6.2 know no CLIENT, so they are told no name.
    unnamed = {name: value for name, value in always.items() if name != "client_name"}
    return Address(Topology.SENTINEL, nodes, service, usable, own | unnamed | shared)


def _node(authority: str, default_port: int) -> Node:
    parts = urlsplit(f"//{authority}")
    if not parts.hostname or parts.path:
        raise ValueError("no host")
    return Node(parts.hostname, parts.port or default_port)


def _usable(options: dict[str, Any]) -> dict[str, Any]:
    """The options as connections are made with them, tried on one: a mistake shows now, not at the first operation."""
    for overruled in _OVERRULED:
        options.pop(overruled, None)
    connection_class = options.setdefault("connection_class", Connection)
    if connection_class is SSLConnection:
        for_tls = {name: options.pop(name) for name in tuple(options) if name.startswith("ssl_")}
        context = SSLConnection(**for_tls).ssl_context
        context.get()
        options |= {"connection_class": TLSConnection, "shared_context": context}
    elif connection_class is UnixDomainSocketConnection:
        options["connection_class"] = SocketConnection
    made_with = {name: value for name, value in options.items() if name != "connection_class"}
    options["connection_class"](**made_with)
    return options
