"""The worker as its operators run it: `datanadhi-worker run` as a process of its own, beside real servers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from temporalio.client import Client

from tests.harness import Platform, process, start
from workers.embedded.receiver import Answer, ReceivedRequest, Receiver
from workers.embedded.servers import Server, free_port, running, start_temporal, start_valkey

SLACK_TOKEN = "xoxb-held-out"
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
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

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
    environment: dict[str, str] = field(default_factory=dict)

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


@pytest.fixture
async def temporal_server(tmp_path: Path) -> AsyncIterator[Server]:
    """Temporal's development server."""
    async with running(start_temporal(tmp_path / "temporal")) as server:
        yield server


@pytest.fixture
async def client(temporal_server: Server) -> Client:
    """A client as the API server has one: with the SDK's own data converter."""
    return await Client.connect(temporal_server.address)


@pytest.fixture
async def surroundings(
    platform: dict[str, Any], mongo_url: str, database_name: str, temporal_server: Server, tmp_path: Path
) -> AsyncIterator[Surroundings]:
    """The platform's documents in MongoDB, Valkey and a receiver."""
    stored = Platform(platform, mongo_url, database_name)
    await stored.store()
    async with running(start_valkey(tmp_path / "valkey")) as valkey, Receiver(slack_token=SLACK_TOKEN) as receiver:
        yield Surroundings(stored, valkey, receiver, tmp_path, temporal_server.address)


async def test_a_worker_delivers_what_the_api_server_starts_and_exits_0_on_sigterm(
    surroundings: Surroundings, client: Client
) -> None:
    async with surroundings.worker() as worker:
        result = await process(client, surroundings.stored.message(log_data=ERROR))
        assert result["success"] is True
        assert len(surroundings.receiver.requests) == 1
        assert await worker.status("/livez") == 200
        assert await worker.stop() == 0
    for line in worker.logs():
        assert {"timestamp", "level", "message", "context"} <= set(line)
    assert "xoxb" not in worker.log_path.read_text()


async def test_one_prometheus_endpoint_serves_temporals_metrics_and_ours(
    surroundings: Surroundings, client: Client
) -> None:
    async with surroundings.worker() as worker:
        await process(client, surroundings.stored.message(log_data=ERROR))
        async with aiohttp.ClientSession() as session, session.get(f"http://{worker.metrics}/metrics") as response:
            metrics = await response.text()
    assert any(line.startswith("temporal_") for line in metrics.splitlines())
    samples = [line for line in metrics.splitlines() if line.startswith("datanadhi_")]
    assert any(line.startswith("datanadhi_records") and line.endswith(" 1") for line in samples)
    assert any('destination="slack"' in line and 'outcome="delivered"' in line for line in samples)
    assert any('family="pipeline"' in line and 'outcome="miss"' in line for line in samples)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_delivery_under_way_gets_its_time_when_the_worker_is_told_to_stop(
    surroundings: Surroundings, client: Client, number: signal.Signals
) -> None:
    arrived, released = asyncio.Event(), asyncio.Event()

    async def slowly(_: ReceivedRequest) -> Answer:
        arrived.set()
        await released.wait()
        return Answer(body={"ok": True})

    surroundings.receiver.answering = slowly
    async with surroundings.worker() as worker:
        handle = await start(client, surroundings.stored.message(log_data=ERROR))
        await arrived.wait()
        worker.process.send_signal(number)
        await worker.until("/readyz", 503)
        assert worker.process.returncode is None
        released.set()
        assert await worker.process.wait() == 0
    events = [event async for event in handle.fetch_history_events()]
    assert [event for event in events if event.HasField("activity_task_completed_event_attributes")]
    assert len(surroundings.receiver.requests) == 1


async def test_roles_can_be_run_apart(surroundings: Surroundings, client: Client) -> None:
    async with surroundings.worker(WORKER_TYPE="main"):
        handle = await start(client, surroundings.stored.message(log_data=ERROR))
        async with surroundings.worker(WORKER_TYPE="destination"):
            assert (await handle.result())["success"] is True
    assert len(surroundings.receiver.requests) == 1


async def test_a_worker_waits_for_a_temporal_that_is_not_up_yet(surroundings: Surroundings) -> None:
    async with surroundings.worker(ready=False, TEMPORAL_HOST=f"127.0.0.1:{free_port()}") as worker:
        await worker.until("/livez", 200)
        assert await worker.status("/readyz") == 503
        assert await worker.stop() == 0


async def test_temporals_own_address_variable_is_preferred(surroundings: Surroundings, client: Client) -> None:
    changes = {"TEMPORAL_HOST": f"127.0.0.1:{free_port()}", "TEMPORAL_ADDRESS": surroundings.temporal_address}
    async with surroundings.worker(**changes):
        assert (await process(client, surroundings.stored.message(log_data=ERROR)))["success"] is True


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CACHE_TIMEOUT_MS", "soon"), ("WORKER_TYPE", "boss"), ("FAILURE_STORE_URL", "gopher://user:hunter2@x/")],
)
async def test_bad_settings_are_named_without_their_values(
    surroundings: Surroundings, variable: str, value: str
) -> None:
    async with surroundings.worker(ready=False, **{variable: value}) as worker:
        assert await worker.process.wait() == 2
    output = worker.log_path.read_text()
    assert variable in output
    assert "hunter2" not in output
    assert "Traceback" not in output


async def test_redis_may_be_restarted_and_frozen_under_running_messages(
    surroundings: Surroundings, client: Client
) -> None:
    """The cache is never in the way: every message is delivered, with Redis frozen, gone, and back."""
    message = surroundings.stored.message
    async with surroundings.worker(CACHE_NEAR_TTL_MS="0") as worker:
        assert (await process(client, message(log_data=ERROR)))["success"] is True
        surroundings.valkey.send_signal(signal.SIGSTOP)
        results = await asyncio.gather(*(process(client, message(log_data=ERROR)) for _ in range(10)))
        surroundings.valkey.send_signal(signal.SIGCONT)
        results += await asyncio.gather(*(process(client, message(log_data=ERROR)) for _ in range(10)))
        port = surroundings.valkey.port
        await surroundings.valkey.stop()
        results += await asyncio.gather(*(process(client, message(log_data=ERROR)) for _ in range(10)))
        async with running(start_valkey(surroundings.folder / "again", port=port)):
            results += await asyncio.gather(*(process(client, message(log_data=ERROR)) for _ in range(10)))
            assert await worker.stop() == 0
    assert all(result["success"] and "failures" not in result for result in results)
    assert len(surroundings.receiver.requests) == 41


async def test_a_worker_that_is_killed_loses_nothing(surroundings: Surroundings, client: Client) -> None:
    """Its delivery is taken up by another worker once its heartbeats are missed."""
    arrived = asyncio.Event()

    async def never(_: ReceivedRequest) -> Answer:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    surroundings.receiver.answering = never
    async with surroundings.worker() as worker:
        handle = await start(client, surroundings.stored.message(log_data=ERROR))
        await arrived.wait()
        worker.process.kill()
        await worker.process.wait()
    surroundings.receiver.answering = None
    async with surroundings.worker():
        result = await handle.result()
    assert result["success"] is True
    assert "failures" not in result
    assert len(surroundings.receiver.requests) == 2
