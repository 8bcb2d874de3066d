"""Servers that misbehave, one for each fault, and clients of them that are closed afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from cache.redis_cache import RedisCache
from workers.embedded.servers import LOOPBACK, Server, running, start_valkey

Answer = Callable[[bytes], Awaitable[bytes]]


class Pretender:
    """A server that answers whatever it is told to, and counts who connects."""

    def __init__(self) -> None:
        self.connections = 0
        self.address = ""
        self._answer: Answer
        self._sessions: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def listening(self, answer: Answer) -> AsyncIterator[str]:
        """Listen for the length of a `with` block; its address."""
        self._answer = answer
        server = await asyncio.start_server(self._session, LOOPBACK, 0)
        host, port = server.sockets[0].getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            server.close()
            for session in self._sessions:
                session.cancel()
            await asyncio.gather(*self._sessions, return_exceptions=True)
            await server.wait_closed()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        session = asyncio.current_task()
        assert session is not None
        self._sessions.add(session)
        try:
            while question := await reader.read(65536):
                writer.write(await self._answer(question))
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            return  # the client has gone, or the test is over
        finally:
            self._sessions.discard(session)
            writer.close()


@pytest_asyncio.fixture(autouse=True)
async def _one_client() -> AsyncIterator[None]:
    """Whatever a test configured, the next one starts without it."""
    yield
    await RedisCache.reset()


@pytest_asyncio.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[Server]:
    """A Valkey server that a test may break."""
    async with running(start_valkey(tmp_path / "valkey")) as server:
        yield server


@pytest_asyncio.fixture
async def pretender() -> Pretender:
    """A server that answers whatever it is told to."""
    return Pretender()
