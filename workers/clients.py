"""The clients of Redis and MongoDB, and the catalog on top of them, as the settings say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit

from pymongo.errors import PyMongoError

from cache.catalog import Catalog
from cache.invalidation import Invalidator
from cache.read_through import Observe, ObserveSeconds
from cache.redis_cache import RedisCache
from cache.sealing import Sealer
from cache.source import MongoSource, SourceUnavailableError
from cache.watcher import Watcher
from workers.settings import Settings, UnusableSettingError

logger = logging.getLogger(__name__)

CLIENT_NAME = "datanadhi-worker"


@asynccontextmanager
async def open_redis(settings: Settings, *, client_name: str = CLIENT_NAME) -> AsyncIterator[RedisCache]:
    """The process's one Redis client, for the length of a `with` block. Nothing is connected yet.

    Args:
        settings: Where Redis is, and how long it may take.
        client_name: What Redis lists the connections as.

    Raises:
        UnusableSettingError: The address cannot be understood.
    """
    url, timeout = settings.redis_url.get_secret_value(), settings.cache_timeout_ms / 1000
    try:
        redis = RedisCache.configure(url, timeout=timeout, client_name=client_name)
    except ValueError as error:  # its message does not show the address
        raise UnusableSettingError(f"REDIS_URL: {error}") from None
    try:
        yield redis
    finally:
        await RedisCache.reset()


@asynccontextmanager
async def open_source(settings: Settings) -> AsyncIterator[MongoSource]:
    """The reader of MongoDB, for the length of a `with` block. Nothing is connected yet.

    Raises:
        UnusableSettingError: The address or the database's name cannot be understood.
    """
    try:
        source = MongoSource.connect(settings.mongo_url.get_secret_value(), settings.database)
    except (PyMongoError, ValueError, OSError):  # their words may quote the address
        raise UnusableSettingError(
            "MONGO_URL or MONGO_DATABASE: the address of MongoDB, its options or the database's name cannot be used"
        ) from None
    try:
        yield source
    finally:
        await source.aclose()


@asynccontextmanager
async def asking_for(source: MongoSource) -> AsyncIterator[None]:
    """Say so once if MongoDB cannot be reached at the start: nothing else would before the first message."""
    asking = asyncio.create_task(_warn_if_away(source))
    try:
        yield
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def _warn_if_away(source: MongoSource) -> None:
    try:
        await source.ping()
    except SourceUnavailableError:
        logger.warning("MongoDB cannot be reached; messages wait until it can, unless the cache has what they need")


@asynccontextmanager
async def open_catalog(
    settings: Settings,
    redis: RedisCache,
    source: MongoSource,
    *,
    near_ttl: float,
    observe: Observe | None = None,
    observe_seconds: ObserveSeconds | None = None,
) -> AsyncIterator[Catalog]:
    """What activities and commands read through, for the length of a `with` block.

    Args:
        settings: The secrets, and for how long what is known may serve.
        redis: The process's Redis client.
        source: The reader of MongoDB.
        near_ttl: Seconds that this process remembers a value by itself.
        observe: Told of each read.
        observe_seconds: Told how long each took that this process did not remember.
    """
    catalog = Catalog(
        redis,
        source,
        sec_db=settings.sec_db.get_secret_value(),
        sec_global=settings.sec_global.get_secret_value(),
        nonce_value=settings.nonce_value.get_secret_value(),
        sealer=Sealer(settings.cache_secret_keys),
        near_ttl=near_ttl,
        stale_max_seconds=settings.cache_stale_max_s,
        observe=observe,
        observe_seconds=observe_seconds,
    )
    try:
        yield catalog
    finally:
        await catalog.aclose()


@asynccontextmanager
async def watching(settings: Settings, redis: RedisCache, catalog: Catalog) -> AsyncIterator[Watcher | None]:
    """Watch MongoDB in the background for the length of a `with` block; None where CACHE_WATCH says not to.

    Every role does: each has things in the cache that must be fresh, and one worker of the fleet watches for all.
    """
    if not settings.cache_watch:
        yield None
        return
    url = settings.mongo_url.get_secret_value()
    async with Watcher(redis, url, settings.database, Invalidator(redis, catalog)).running() as watcher:
        yield watcher


def warn_of_open_credentials(settings: Settings) -> None:
    """Say so if decrypted credentials would be stored and carried in plain text where others may read them."""
    if not settings.cache_secret_keys and not _stays_between_us(settings.redis_url.get_secret_value()):
        logger.warning(
            "CACHE_SECRET_KEY is not set and Redis is neither on this machine nor behind TLS: "
            "decrypted credentials travel to it and lie in it as plain text"
        )


def _stays_between_us(redis_url: str) -> bool:
    """Whether Redis is reached by TLS, by a socket's file, or on loopback alone; several hosts are `host:port,...`."""
    scheme, _, rest = redis_url.partition("://")
    if scheme.startswith(("rediss", "unix")):
        return True
    if scheme.endswith("+sentinel"):  # they may stand beside the worker, and name a primary that does not
        return False
    hosts = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return all(_is_loopback(host) for host in hosts.split(","))


def _is_loopback(host_and_port: str) -> bool:
    host = urlsplit(f"//{host_and_port}").hostname or "localhost"
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost" or host.endswith(".localhost")
