"""TLS, a unix socket, a user and a password: whichever way leads to Redis, and that a wrong one leads nowhere."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.asyncio import Redis

from cache.addresses import parse
from cache.connections import MOST_CONNECTIONS
from cache.redis_cache import RedisCache
from tests.redis_topologies import behind_tls
from workers.embedded.servers import Server, running, start_valkey


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1, and its key, as files."""

    certificate: Path
    key: Path


def _certificate(folder: Path, name: str) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return _certificate(tmp_path, "redis")


@pytest_asyncio.fixture
async def tls_port(valkey: Server, certificate: Certificate) -> AsyncIterator[int]:
    """Where the shared Redis speaks TLS."""
    async with behind_tls(valkey, certificate.certificate, certificate.key) as port:
        yield port
        await RedisCache.reset()  # before the other side goes


async def test_by_tls_it_is_as_without(tls_port: int, certificate: Certificate, raw: Redis) -> None:
    redis = RedisCache.configure(f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate.certificate}", timeout=2.0)
    assert await redis.safe_set("key", "value", 100)
    answers = await asyncio.gather(*(redis.safe_get("key") for _ in range(MOST_CONNECTIONS)))
    assert answers == [b"value"] * MOST_CONNECTIONS
    assert await raw.get("key") == b"value"
    assert redis.breaker.outages == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_server_that_is_not_who_it_should_be_is_an_outage(
    tls_port: int, certificate: Certificate, tmp_path: Path, host: str
) -> None:
    """Signed by somebody else, or for another name: nothing is said to it, least of all the password."""
    trusted = _certificate(tmp_path, "other") if host == "127.0.0.1" else certificate
    redis = RedisCache.configure(f"rediss://:planted@{host}:{tls_port}?ssl_ca_certs={trusted.certificate}", timeout=2.0)
    while redis.state == "closed":
        assert await redis.safe_get("key") is None
    assert not await redis.safe_set("key", "value", 100)


async def test_a_server_without_tls_is_an_outage(redis_url: str) -> None:
    redis = RedisCache.configure(redis_url.replace("redis://", "rediss://"))
    while redis.state == "closed":
        assert await redis.safe_get("key") is None


@pytest.mark.parametrize("url", ["rediss://host", "rediss+cluster://host", "rediss+sentinel://host/service"])
def test_the_trusted_authorities_are_read_once_not_for_every_connection(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer than the event loop may be held up."""
    address = parse(url, timeout=1, client_name="name")
    monkeypatch.setattr(ssl, "create_default_context", None)
    options = {name: value for name, value in address.options.items() if name != "connection_class"}
    connections = [address.options["connection_class"](host="host", port=1, **options) for _ in range(2)]
    contexts = [connection._connection_arguments()["ssl"] for connection in connections]
    assert contexts[0] is contexts[1]
    assert contexts[0].verify_mode is ssl.CERT_REQUIRED
    assert contexts[0].check_hostname
    if address.sentinel_options:
        assert address.sentinel_options["shared_context"].get() is contexts[0]


async def test_a_unix_socket_takes_a_user_and_a_password_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="cache")
    path = tmp_path / "redis.sock"
    user = ("--user", "worker", "on", ">p@ss:w/rd", "~app:*", "+@all")
    async with running(start_valkey(tmp_path, options=("--unixsocket", str(path), *user))) as server:
        redis = RedisCache.configure(f"unix://worker:p%40ss%3Aw%2Frd@{path}?db=3")
        assert await redis.safe_set("app:key", "value", 100)
        assert await redis.safe_get("app:key") == b"value"
        assert await redis.safe_get("not:mine") is None
        assert redis.breaker.outages == 0
        async with Redis(host=server.host, port=server.port, protocol=2) as raw:
            statistics = await raw.info("commandstats")
            assert statistics["cmdstat_auth"]["calls"] == statistics["cmdstat_select"]["calls"] == 1
        await RedisCache.reset()
        redis = RedisCache.configure(f"unix://worker:planted@{path}")
        while redis.state == "closed":
            assert await redis.safe_get("app:key") is None
        assert not await redis.safe_set("app:key", "value", 100)
        assert "AuthenticationError" in caplog.text
        assert "planted" not in caplog.text + repr(redis)
        await RedisCache.reset()
