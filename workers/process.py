"""The worker process: connects what it needs, polls until it is told to stop, then drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.boundary import ErrorBoundary
from activities.delivery import Deliverer
from activities.destinations.base import DestinationContext, open_context
from activities.destinations.registry import create_destinations
from activities.errors import InvalidConfigurationError
from activities.failure_store import FailureStore
from activities.failures import FailureLogger
from activities.lookups import Lookups
from activities.metrics import WorkerMetrics
from activities.processing import RecordProcessor
from cache.catalog import Catalog
from cache.redis_cache import RedisCache
from cache.source import MongoSource
from workers.cache_metrics import CacheMetrics
from workers.clients import asking_for, open_catalog, open_redis, open_source, warn_of_open_credentials, watching
from workers.connecting import connect
from workers.health import serve_health
from workers.logs import LogContext
from workers.settings import Settings, UnusableSettingError
from workers.stopping import StopSignals
from workers.telemetry import create_runtime
from workflows import policies
from workflows.main import MainWorkflow

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class WorkerProcess:
    """One worker process from start to drain.

    Attributes:
        settings: What it runs with.
        stop: Set to end it: running activities get their time, then `run` returns.
    """

    settings: Settings
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _client: Client | None = None
    _polling: bool = False

    async def run(self) -> None:
        """Run until `stop` is set.

        What can be found wrong without a server is found before Temporal is connected to.

        Raises:
            UnusableSettingError: A setting is of no use: an address that cannot be listened on, a bucket without a
                name, a namespace that Temporal does not have, ...
            RuntimeError: Polling failed for good.
        """
        connection = self.settings.temporal_connection()
        runtime = await create_runtime(self.settings.metrics_address)
        metrics = WorkerMetrics(runtime.metric_meter)
        async with AsyncExitStack() as stack:
            dependencies = await stack.enter_async_context(open_dependencies(self.settings, metrics))
            await stack.enter_async_context(serve_health(self.settings.health_address, self.is_ready))
            warn_of_open_credentials(self.settings)
            await stack.enter_async_context(asking_for(dependencies.source))
            redis, catalog = dependencies.redis, dependencies.catalog
            watcher = await stack.enter_async_context(watching(self.settings, redis, catalog))
            sampled = CacheMetrics(runtime.metric_meter, redis, dependencies.source, catalog, watcher)
            await stack.enter_async_context(sampled.running())
            self._client = await connect(connection, runtime, self.stop)
            if self._client is not None:
                await self._poll(create_workers(self.settings, self._client, dependencies))

    async def is_ready(self) -> bool:
        """Whether it polls, is not draining, and Temporal answers."""
        if self._client is None or not self._polling or self.stop.is_set():
            return False
        try:
            return await self._client.service_client.check_health()
        except RuntimeError:  # what the SDK raises for any failed call
            return False

    async def _poll(self, workers: Sequence[Worker]) -> None:
        async with AsyncExitStack() as stack:
            running = [asyncio.create_task(worker.run()) for worker in workers]
            stack.push_async_callback(_drain, workers, running)
            self._polling = True
            queues = [worker.task_queue for worker in workers]
            logger.info("Worker is polling %s as %s", ", ".join(queues), self.settings.worker_type)
            stopping = asyncio.create_task(self.stop.wait())
            await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            self._polling = False
            logger.info("Worker is draining")


async def _drain(workers: Sequence[Worker], running: Sequence[asyncio.Task[None]]) -> None:
    """Stop polling, give running activities their time, and raise what ended a worker by itself."""
    await asyncio.gather(*(worker.shutdown() for worker in workers))
    await asyncio.gather(*running)
    logger.info("Worker has stopped")


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The clients that activities are given, and those that they are made of."""

    redis: RedisCache
    source: MongoSource
    catalog: Catalog
    destinations: DestinationContext
    failure_store: FailureStore
    metrics: WorkerMetrics


@asynccontextmanager
async def open_dependencies(settings: Settings, metrics: WorkerMetrics) -> AsyncIterator[Dependencies]:
    """Make every client once, and close them in the reverse order. None of them needs its server to be up.

    Raises:
        UnusableSettingError: An address cannot be understood, or a folder cannot be used.
    """
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings))
        source = await stack.enter_async_context(open_source(settings))
        catalog = await stack.enter_async_context(
            open_catalog(
                settings,
                redis,
                source,
                near_ttl=settings.cache_near_ttl_ms / 1000,
                observe=metrics.cache_read,
                observe_seconds=metrics.cache_read_seconds,
            )
        )
        destinations = await stack.enter_async_context(open_context(slack_api_url=settings.slack_api_url))
        yield Dependencies(redis, source, catalog, destinations, _open_failure_store(settings), metrics)


def _open_failure_store(settings: Settings) -> FailureStore:
    try:
        return FailureStore.open(**settings.failure_store_options())
    except InvalidConfigurationError as error:  # our own words, without the address
        raise UnusableSettingError(f"FAILURE_STORE_URL or MINIO_*: {error}") from None


def create_workers(settings: Settings, client: Client, dependencies: Dependencies) -> list[Worker]:
    """The workers of the process's role: one a task queue."""
    workers = []
    if settings.worker_type.runs_pipelines:
        workers.append(_pipeline_worker(settings, client, dependencies))
    if settings.worker_type.delivers:
        workers.append(_destination_worker(settings, client, dependencies))
    return workers


def _pipeline_worker(settings: Settings, client: Client, dependencies: Dependencies) -> Worker:
    lookups = Lookups(dependencies.catalog)
    processor = RecordProcessor(dependencies.catalog, dependencies.metrics)
    return Worker(
        client,
        task_queue=settings.task_queue,
        workflows=[MainWorkflow],
        activities=[
            lookups.fetch_pipeline_config,
            lookups.fetch_workflow_config,
            lookups.fetch_integration_target,
            lookups.fetch_integration_connector,
            processor.process_records,
        ],
        interceptors=[LogContext(), ErrorBoundary()],
        # Every workflow here is ours; replay tests and a sandboxed run hold it to determinism at less cost.
        workflow_runner=UnsandboxedWorkflowRunner(),
        graceful_shutdown_timeout=policies.DRAIN,
    )


def _destination_worker(settings: Settings, client: Client, dependencies: Dependencies) -> Worker:
    destinations = create_destinations(dependencies.destinations)
    deliverer = Deliverer(dependencies.catalog, destinations, dependencies.metrics)
    failures = FailureLogger(dependencies.failure_store, dependencies.metrics)
    return Worker(
        client,
        task_queue=settings.task_queue + policies.DESTINATION_QUEUE_SUFFIX,
        activities=[deliverer.deliver, failures.log_failure],
        interceptors=[LogContext(), ErrorBoundary()],
        graceful_shutdown_timeout=policies.DRAIN,
        # Progress of a delivery is lost with the process that made it unless it was told to the server.
        max_heartbeat_throttle_interval=policies.HEARTBEAT_INTERVAL,
        default_heartbeat_throttle_interval=policies.HEARTBEAT_INTERVAL,
    )


async def run_worker(settings: Settings, signals: StopSignals) -> None:
    """Run a worker process until SIGTERM or SIGINT.

    Args:
        settings: What it runs with.
        signals: What has been noted of them so far; nothing is started where that is one.

    Raises:
        UnusableSettingError: As of `WorkerProcess.run`.
        RuntimeError: As of `WorkerProcess.run`.
    """
    if signals.told:
        return
    process = WorkerProcess(settings)
    loop = asyncio.get_running_loop()
    with signals.calling(lambda: loop.call_soon_threadsafe(process.stop.set)):
        await process.run()
