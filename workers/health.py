"""The health endpoints: `/livez` (the process runs) and `/readyz` (it takes work)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from workers.settings import UnusableSettingError

CHECK_TIMEOUT_SECONDS = 2.0

Check = Callable[[], Awaitable[bool]]


async def _livez(_: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


def _readyz(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                ready = await check()
        except TimeoutError:
            ready = False
        return web.json_response({"status": "ready" if ready else "not ready"}, status=200 if ready else 503)

    return handler


@asynccontextmanager
async def serve_health(address: str, check: Check) -> AsyncIterator[None]:
    """Serve the endpoints on `host:port` for the length of a `with` block; nowhere if the address is empty.

    Without a host it is every interface.

    Args:
        address: Where to listen.
        check: Whether the worker takes work; one that takes longer than 2 s counts as no.

    Raises:
        UnusableSettingError: The address cannot be listened on.
    """
    if not address:
        yield
        return
    application = web.Application()
    application.add_routes([web.get("/livez", _livez), web.get("/readyz", _readyz(check))])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    host, _, port = address.rpartition(":")
    try:
        try:
            await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
        except OSError as error:
            raise UnusableSettingError(f"HEALTH_ADDRESS: {address} cannot be listened on ({error.strerror})") from None
        yield
    finally:
        await runner.cleanup()
