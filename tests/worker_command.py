"""The worker as its operators run it: `datanadhi-worker run` as a process of its own, and what it runs beside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.harness import Platform
from workers.embedded.receiver import Receiver
from workers.embedded.servers import Server, free_port

SLACK_TOKEN = "xoxb-held-out"
"""The token inside the sample connector's encrypted credentials."""

ERROR = {"level": "ERROR", "message": "payment declined", "attempt": 3}


@dataclass
class WorkerCommand:
    """A running `datanadhi-worker run`."""

    process: asyncio.subprocess.Process
    health: str
    metrics: str
    log_path: Path

    def logs(self) -> list[dict[str, Any]]:
        """Its log lines, each of which must be JSON."""
        lines = self.log_path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    async def status(self, path: str) -> int:
        """What a health endpoint answers; 0 while nobody listens."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://{self.health}{path}") as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return 0

    async def until(self, path: str, status: int) -> None:
        """Wait for a health endpoint to answer so."""
        while await self.status(path) != status:
            assert self.process.returncode is None, self.log_path.read_text()
            await asyncio.sleep(0.02)  # a process tells its readiness to those who ask

    async def samples(self) -> list[str]:
        """The lines of its metrics."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.metrics}/metrics") as response:
            return (await response.text()).splitlines()

    async def says(self, beginning: str) -> None:
        """Wait for a log line that begins so."""
        async with asyncio.timeout(20):
            while not any(line["message"].startswith(beginning) for line in self.logs()):
                assert self.process.returncode is None, self.log_path.read_text()
                await asyncio.sleep(0.02)  # as above

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop; its exit code."""
        self.process.send_signal(number)
        return await self.process.wait()


@dataclass
class Surroundings:
    """What a worker runs beside."""

    stored: Platform
    valkey: Server
    receiver: Receiver
    folder: Path
    temporal_address: str

    @asynccontextmanager
    async def worker(self, *, ready: bool = True, **changes: str) -> AsyncIterator[WorkerCommand]:
        """Start a worker with this environment, changed as told."""
        health, metrics = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        log_path = self.folder / f"worker-{health.rpartition(':')[2]}.log"
        environment = {
            "PATH": os.environ["PATH"],
            "MONGO_URL": self.stored.url,
            "MONGO_DATABASE": self.stored.database,
            "REDIS_URL": f"redis://{self.valkey.address}/0",
            "SEC_DB": self.stored.data["env"]["SEC_DB"],
            "TEMPORAL_HOST": self.temporal_address,
            "SLACK_API_URL": self.receiver.slack_api_url,
            "FAILURE_STORE_URL": (self.folder / "failures").as_uri(),
            "HEALTH_ADDRESS": health,
            "METRICS_ADDRESS": metrics,
            **changes,
        }
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "workers", "run"), env=environment, stdout=log, stderr=log, cwd=self.folder
            )
        command = WorkerCommand(process, health, metrics, log_path)
        try:
            if ready:
                await command.until("/readyz", 200)
            yield command
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def failing_start(folder: Path, **changes: str) -> tuple[int | None, str]:
    """Start a worker beside nothing; its exit code and all that it printed, log lines aside."""
    nowhere = {
        "MONGO_URL": f"mongodb://127.0.0.1:{free_port()}",
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "TEMPORAL_HOST": f"127.0.0.1:{free_port()}",
    }
    environment = {"PATH": os.environ["PATH"], "SEC_DB": "secret", **nowhere, **changes}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers", "run"),
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, "".join(
        line for line in output.decode().splitlines(keepends=True) if not line.startswith('{"timestamp"')
    )
