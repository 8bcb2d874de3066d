"""The worker process: what it does when it starts, runs, is told to stop, is killed, and when its servers fail it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from temporalio.client import Client

from tests.harness import process, start
from tests.worker_command import ERROR, Surroundings, failing_start
from workers.embedded.receiver import Answer, ReceivedRequest
from workers.embedded.servers import Server, free_port, running, start_valkey


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
        metrics = await worker.samples()
    assert any(line.startswith("temporal_") for line in metrics)
    samples = [line for line in metrics if line.startswith("datanadhi_")]
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
    [
        ("CACHE_TIMEOUT_MS", "soon"),
        ("WORKER_TYPE", "boss"),
        ("FAILURE_STORE_URL", "gopher://user:hunter2@x/"),
        ("FAILURE_STORE_URL", "s3://"),
        ("MONGO_URL", "mongodb://user:hunter2@127.0.0.1:99999"),
        ("MONGO_URL", "mongodb://user:hun/ter2@127.0.0.1"),
        ("REDIS_URL", "redis://user:hunter2@127.0.0.1:six"),
        ("METRICS_ADDRESS", "9464"),
        ("METRICS_ADDRESS", "198.51.100.7:9464"),
        ("METRICS_ADDRESS", "no-such-host.invalid:9464"),
        ("HEALTH_ADDRESS", "198.51.100.7:8080"),
        ("TEMPORAL_HOST", "127.0.0.1"),
        ("TEMPORAL_HOST", "http://127.0.0.1:7233"),
        ("TEMPORAL_TLS", "maybe"),
        ("CACHE_SECRET_KEY", "hunter2,"),
    ],
)
async def test_bad_settings_are_told_in_a_line_without_their_values(variable: str, value: str, tmp_path: Path) -> None:
    """Before Temporal is connected to, which is not up here."""
    code, output = await failing_start(tmp_path, **{variable: value})
    assert code == 2, output
    assert variable in output
    assert len(output.splitlines()) == 1, output
    assert "hun" not in output


async def test_a_namespace_that_temporal_does_not_have_is_told_in_a_line(
    temporal_server: Server, tmp_path: Path
) -> None:
    code, output = await failing_start(tmp_path, TEMPORAL_HOST=temporal_server.address, TEMPORAL_NAMESPACE="elsewhere")
    assert code == 2, output
    [line] = output.splitlines()
    assert line.startswith("TEMPORAL_NAMESPACE: ")
    assert "elsewhere" in line


async def test_addresses_may_be_names_and_every_interface(surroundings: Surroundings) -> None:
    health, metrics = free_port(), free_port()
    changes = {"HEALTH_ADDRESS": f"localhost:{health}", "METRICS_ADDRESS": f"localhost:{metrics}"}
    async with surroundings.worker(ready=False, **changes) as worker:
        worker.health, worker.metrics = f"localhost:{health}", f"localhost:{metrics}"
        await worker.until("/readyz", 200)
        assert await worker.samples()
    changes = {"HEALTH_ADDRESS": f":{health}", "METRICS_ADDRESS": f":{metrics}"}
    async with surroundings.worker(ready=False, **changes) as worker:
        worker.health, worker.metrics = f"127.0.0.1:{health}", f"127.0.0.1:{metrics}"
        await worker.until("/readyz", 200)
        assert await worker.samples()


SIGNALLED_AMID_IMPORTS = """
import importlib.abc, os, signal, sys

class Telling(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == sys.argv[2]:
            os.kill(os.getpid(), getattr(signal, sys.argv[3]))
            print("told", flush=True)

sys.meta_path.insert(0, Telling())
from workers.cli import app
app(["run"])
"""


@pytest.mark.parametrize("name", ["workers.settings", "temporalio.client", "pymongo", "workers.process"])
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
async def test_a_worker_told_to_stop_before_it_has_begun_exits_0(name: str, number: str, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SIGNALLED_AMID_IMPORTS, "run", name, number),
        env={"PATH": os.environ["PATH"], "SEC_DB": "secret", "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"told\n", b"")


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


async def test_a_mongodb_that_is_away_is_said_at_the_start(surroundings: Surroundings) -> None:
    async with surroundings.worker(MONGO_URL=f"mongodb://127.0.0.1:{free_port()}", CACHE_WATCH="false") as worker:
        await worker.says("MongoDB cannot be reached")
        assert await worker.stop() == 0
