"""Connections of every kind, against a real server: what a command costs, and what becomes of a send that fails."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from cache.connections import open_pool
from cache.redis_cache import RedisCache
from workers.embedded.servers import LOOPBACK, Server, running, start_valkey

LARGE = b"x" * 4_000_000
"""More than all buffers on the way take at once."""


def _certificate(folder: Path) -> Path:
    """A certificate for this machine that vouches for itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(LOOPBACK))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "redis.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    return file


@asynccontextmanager
async def _behind_tls(server: Server, certificate: Path) -> AsyncIterator[str]:
    """A server that speaks TLS and hands on to one that does not; its address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while some := await reader.read(65536):
                writer.write(some)
                await writer.drain()
        finally:
            writer.close()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection(server.host, server.port)
        await asyncio.gather(pass_on(reader, onward_writer), pass_on(onward_reader, writer), return_exceptions=True)

    listening = await asyncio.start_server(session, LOOPBACK, 0, ssl=context)
    host, port = listening.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        listening.close()


@asynccontextmanager
async def _address(kind: str, folder: Path) -> AsyncIterator[str]:
    socket = folder / "redis.sock"
    async with running(start_valkey(folder / "valkey", options=("--unixsocket", str(socket)))) as server:
        if kind == "unix":
            yield f"unix://{socket}"
        elif kind == "redis":
            yield f"redis://{server.address}"
        else:
            certificate = _certificate(folder)
            async with _behind_tls(server, certificate) as address:
                yield f"rediss://{address}?ssl_ca_certs={certificate}"


@pytest.mark.parametrize("kind", ["redis", "rediss", "unix"])
async def test_values_of_any_size_go_and_come_over_tcp_tls_and_a_unix_socket(tmp_path: Path, kind: str) -> None:
    async with _address(kind, tmp_path) as url:
        redis = RedisCache.configure(url, timeout=10.0)
        for value in (b"", b"value", LARGE):
            assert await redis.safe_set("key", value, 100)
            assert await redis.safe_get("key") == value
        connections = redis._guard._pool._available_connections
        assert {connection.socket_timeout for connection in connections} == {10.0}, "reads are bounded as before"
        assert redis.breaker.outages == 0
        await RedisCache.reset()


async def test_a_command_costs_one_task(redis: RedisCache, raw: Redis) -> None:
    """redis-py makes one more for each send."""
    assert raw
    await redis.safe_get("key")  # connects
    tasks: list[Any] = []

    def counted(loop: asyncio.AbstractEventLoop, call: Any, **options: Any) -> asyncio.Task[Any]:
        tasks.append(call)
        return asyncio.Task(call, loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(counted)
    await redis.safe_get("key")
    asyncio.get_running_loop().set_task_factory(None)
    assert len(tasks) == 1


async def test_a_send_that_fails_is_redis_pys_own_error_and_ends_the_connection(redis_url: str) -> None:
    pool = open_pool(redis_url, timeout=1.0, client_name="test")
    connection = await pool.get_connection()
    connection._writer.transport.abort()
    await asyncio.sleep(0)  # it is told
    with pytest.raises(RedisConnectionError):
        await connection.send_command("SET", "key", LARGE)
    assert not connection.is_connected
    assert connection.socket_timeout == 1.0
    await pool.release(connection)
    again = await pool.get_connection()
    await again.send_command("PING")
    assert await again.read_response() == b"PONG"
    await pool.release(again)
    await pool.aclose()
