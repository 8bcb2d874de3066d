"""A TCP proxy on loopback that holds every answer back: a network's round trip without the network.

    python benchmarks/delay_proxy.py LISTEN_PORT TARGET_PORT DELAY_MILLISECONDS

The whole round trip is added on the way back: asyncio's timers have a resolution of a millisecond, and two halves
would be two roundings.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

LOOPBACK = "127.0.0.1"


class Answers(asyncio.Protocol):
    """The side of the server: what it says is passed on a while later, in order."""

    def __init__(self, client: asyncio.Transport, delay: float) -> None:
        self._client = client
        self._delay = delay
        self._held: deque[bytes] = deque()
        self._later = asyncio.get_running_loop().call_later

    def data_received(self, data: bytes) -> None:
        """Hold it back."""
        self._held.append(data)
        self._later(self._delay, self._pass_on)

    def connection_lost(self, _error: Exception | None) -> None:
        """Hang up on the client too."""
        self._later(self._delay, self._client.close)

    def _pass_on(self) -> None:
        self._client.write(self._held.popleft())


class Questions(asyncio.Protocol):
    """The side of the client: what it says is passed on at once."""

    def __init__(self, target_port: int, delay: float) -> None:
        self._target_port = target_port
        self._delay = delay
        self._server: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the server before the client is listened to."""
        if isinstance(transport, asyncio.Transport):
            transport.pause_reading()
            self._connecting = asyncio.create_task(self._connect(transport))

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self._server is not None:
            self._server.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """Hang up on the server too."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._server is not None:
            self._server.close()

    async def _connect(self, client: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._server, _ = await loop.create_connection(
                lambda: Answers(client, self._delay), LOOPBACK, self._target_port
            )
        except OSError:
            client.close()
        else:
            client.resume_reading()


async def main() -> None:
    """Serve until killed."""
    listen_port, target_port, delay = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Questions(target_port, delay), LOOPBACK, listen_port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
