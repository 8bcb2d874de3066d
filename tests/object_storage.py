"""An S3 server for tests, as a process of its own."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from workers.embedded.processes import start
from workers.embedded.servers import Server, executable


async def start_s3(folder: Path, *, port: int | None = None) -> Server:
    """Start moto's S3 server."""
    command = executable("moto_server")
    return await start("s3", lambda chosen: [command, "-H", "127.0.0.1", "-p", str(chosen)], folder, port=port)


async def make_bucket(server: Server, name: str) -> None:
    """Make a bucket."""
    async with aiohttp.ClientSession() as session, session.put(f"http://{server.address}/{name}") as response:
        assert response.status == 200
