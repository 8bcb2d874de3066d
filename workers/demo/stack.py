"""The embedded stack: servers, receiver and worker around the sample documents, in one temporary folder."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import aiohttp

from workers.demo.sample import ARCHIVE, DATABASE, TASK_QUEUE, SampleSecrets, sample_documents, store_documents
from workers.embedded.processes import LOOPBACK, EmbeddedServerError, Server, free_port, last_lines, listening, start
from workers.embedded.receiver import Receiver
from workers.embedded.servers import start_mongodb, start_temporal, start_valkey, temporal_ui_port

Result = TypeVar("Result")

READY_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The embedded servers, up and running."""

    temporal: Server
    valkey: Server
    mongodb: Server

    @property
    def mongo_url(self) -> str:
        """MongoDB's address."""
        return f"mongodb://{self.mongodb.address}/?directConnection=true"

    @property
    def redis_url(self) -> str:
        """Valkey's address."""
        return f"redis://{self.valkey.address}/0"

    @property
    def ui_url(self) -> str:
        """Address of Temporal's web UI."""
        return f"http://{LOOPBACK}:{temporal_ui_port(self.temporal.port)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProcess:
    """A worker in a process of its own; `server.address` serves its health endpoints."""

    server: Server
    metrics_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Everything that a record meets on its way.

    Attributes:
        environment: The worker's settings, secrets among them, without addresses of its own.
        worker: None where the stack was started without one.
    """

    folder: Path
    servers: Servers
    receiver: Receiver
    environment: Mapping[str, str]
    worker: WorkerProcess | None

    @property
    def failures_folder(self) -> Path:
        """Where the failure store keeps its objects."""
        return _failures_folder(self.folder)

    def write_environment(self) -> Path:
        """Write the worker's settings to a file that a shell can read, for a worker started by hand."""
        path = self.folder / "worker.env"
        path.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in self.environment.items()))
        return path

    async def while_running(self, doing: Coroutine[Any, Any, Result]) -> Result:
        """Do something that needs every process of the stack.

        Raises:
            EmbeddedServerError: One of them ended meanwhile.
        """
        processes = [self.servers.temporal, self.servers.valkey, self.servers.mongodb]
        if self.worker is not None:
            processes.append(self.worker.server)
        ends = [asyncio.create_task(_raise_at_end(process)) for process in processes]
        done = asyncio.create_task(doing)
        try:
            await asyncio.wait([done, *ends], return_when=asyncio.FIRST_COMPLETED)
            for ended in ends:
                if ended.done():
                    ended.result()
            return await done
        finally:
            await _cancel(done, *ends)


async def _raise_at_end(server: Server) -> None:
    await server.process.wait()
    last = last_lines(server.log_path)
    raise EmbeddedServerError(f"{server.name} ended with exit code {server.process.returncode}; its log ends:\n{last}")


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@asynccontextmanager
async def running_stack(*, with_worker: bool, announce: Callable[[str], None]) -> AsyncIterator[Stack]:
    """The stack for the length of a `with` block. However that ends, no process and no folder is left.

    Args:
        with_worker: Whether to start a worker.
        announce: Told what is being started.

    Raises:
        EmbeddedServerError: A part of it did not start.
    """
    keys = SampleSecrets()
    with TemporaryDirectory(prefix="datanadhi-") as name:
        folder = Path(name)
        async with AsyncExitStack() as ending:
            announce("Starting Temporal, Valkey and a MongoDB-protocol server")
            servers = await _start_servers(folder, ending)
            receiver = await ending.enter_async_context(Receiver(slack_token=keys.slack_token))
            await store_documents(servers.mongo_url, sample_documents(keys, receiver.hook_url(ARCHIVE)))
            environment = _worker_environment(folder, servers, receiver, keys)
            worker = None
            if with_worker:
                announce("Starting a worker")
                worker = await ending.enter_async_context(_running_worker(folder / "worker", environment))
            yield Stack(folder=folder, servers=servers, receiver=receiver, environment=environment, worker=worker)


async def _start_servers(folder: Path, ending: AsyncExitStack) -> Servers:
    """Start the servers side by side; each is killed at the end, for its data goes with the folder."""

    async def up(starting: Callable[[], Awaitable[Server]]) -> Server:
        server = await starting()
        ending.push_async_callback(server.kill)
        return server

    try:
        async with asyncio.TaskGroup() as group:
            temporal = group.create_task(up(lambda: start_temporal(folder / "temporal", ui=True)))
            valkey = group.create_task(up(lambda: start_valkey(folder / "valkey")))
            mongodb = group.create_task(up(lambda: start_mongodb(folder / "mongodb")))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return Servers(temporal=temporal.result(), valkey=valkey.result(), mongodb=mongodb.result())


def _failures_folder(folder: Path) -> Path:
    return folder / "failures"


def _worker_environment(folder: Path, servers: Servers, receiver: Receiver, keys: SampleSecrets) -> dict[str, str]:
    return {
        "MONGO_URL": servers.mongo_url,
        "MONGO_DATABASE": DATABASE,
        "REDIS_URL": servers.redis_url,
        "SEC_DB": keys.sec_db,
        "SEC_GLOBAL": keys.sec_global,
        "NONCE_VALUE": keys.nonce_value,
        "TEMPORAL_HOST": servers.temporal.address,
        "TASK_QUEUE": TASK_QUEUE,
        "WORKER_TYPE": "all",
        "SLACK_API_URL": receiver.slack_api_url,
        "FAILURE_STORE_URL": _failures_folder(folder).as_uri(),
    }


@asynccontextmanager
async def _running_worker(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[WorkerProcess]:
    """A worker that is ready. It is drained when all went well, and killed when nobody waits for it any more."""
    worker = await _start_worker(folder, environment)
    try:
        yield worker
        await worker.server.stop()
    finally:
        await worker.server.kill()


async def _start_worker(folder: Path, environment: Mapping[str, str]) -> WorkerProcess:
    metrics_address = ""

    def with_addresses(port: int) -> dict[str, str]:
        nonlocal metrics_address
        metrics_address = f"{LOOPBACK}:{free_port()}"
        return {**environment, "HEALTH_ADDRESS": f"{LOOPBACK}:{port}", "METRICS_ADDRESS": metrics_address}

    server = await start(
        "worker",
        lambda _: [sys.executable, "-m", "workers", "run"],
        folder,
        environment=with_addresses,
        ready=_takes_work,
    )
    return WorkerProcess(server=server, metrics_address=metrics_address)


async def _takes_work(worker: Server) -> bool:
    if not await listening(worker):
        return False
    timeout = aiohttp.ClientTimeout(total=READY_TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{worker.address}/readyz") as answer,
        ):
            return answer.status == HTTPStatus.OK
    except (aiohttp.ClientError, OSError):  # it is on its way up; a time-out is an OSError
        return False
