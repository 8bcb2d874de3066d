"""The worker process: connects what it needs, polls until it is told to stop, then drains."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from tenacity import RetryCallState, retry, retry_if_exception_type, wait_exponential_jitter

from activities.boundary import ErrorBoundary
from activities.data_converter import DATA_CONVERTER
from activities.delivery import Deliverer
from activities.destinations.base import DestinationContext, open_context
from activities.destinations.registry import create_destinations
from activities.failure_store import FailureStore
from activities.failures import FailureLogger
from activities.lookups import Lookups
from activities.metrics import WorkerMetrics
from activities.processing import RecordProcessor
from cache.catalog import Catalog
from cache.redis_cache import RedisCache
from cache.source import MongoSource
from workers.health import serve_health
from workers.logs import LogContext
from workers.settings import Settings
from workers.telemetry import create_runtime
from workflows import policies
from workflows.main import MainWorkflow

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


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

        Raises:
            OSError: A health address cannot be listened on.
            RuntimeError: The metrics address cannot be listened on, or polling failed for good.
        """
        runtime = create_runtime(self.settings.metrics_address)
        async with serve_health(self.settings.health_address, self.is_ready):
            connecting = asyncio.create_task(self._connect(runtime))
            if not await _first(connecting, self.stop):
                return
            self._client = await connecting
            async with open_dependencies(self.settings, WorkerMetrics(runtime.metric_meter)) as dependencies:
                await self._poll(create_workers(self.settings, self._client, dependencies))

    async def is_ready(self) -> bool:
        """Whether it polls, is not draining, and Temporal answers."""
        if self._client is None or not self._polling or self.stop.is_set():
            return False
        try:
            return await self._client.service_client.check_health()
        except RuntimeError:  # what the SDK raises for any failed call
            return False

    async def _connect(self, runtime: Runtime) -> Client:
        """Connect to Temporal, however long it takes to come up."""
        connect = retry(
            retry=retry_if_exception_type(RuntimeError),
            wait=wait_exponential_jitter(initial=0.2, max=5),
            before_sleep=_log_first_attempt,
        )(Client.connect)
        client: Client = await connect(
            **self.settings.temporal_connection(), data_converter=DATA_CONVERTER, runtime=runtime
        )
        return client

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


async def _first(task: asyncio.Task[Client], stop: asyncio.Event) -> bool:
    """Whether the task ended before the event was set; otherwise the task is cancelled."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
        return False
    return True


def _log_first_attempt(state: RetryCallState) -> None:
    if state.attempt_number == 1:
        logger.warning("Temporal cannot be reached; connecting goes on in the background")


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The clients that activities are given."""

    catalog: Catalog
    destinations: DestinationContext
    failure_store: FailureStore
    metrics: WorkerMetrics


@asynccontextmanager
async def open_dependencies(settings: Settings, metrics: WorkerMetrics) -> AsyncIterator[Dependencies]:
    """Make every client once, and close them in the reverse order. None of them needs its server to be up."""
    async with AsyncExitStack() as stack:
        redis = RedisCache.configure(settings.redis_url.get_secret_value(), timeout=settings.cache_timeout_ms / 1000)
        stack.push_async_callback(RedisCache.reset)
        source = MongoSource.connect(settings.mongo_url.get_secret_value(), settings.database)
        stack.push_async_callback(source.aclose)
        catalog = Catalog(
            redis,
            source,
            sec_db=settings.sec_db.get_secret_value(),
            sec_global=settings.sec_global.get_secret_value(),
            nonce_value=settings.nonce_value.get_secret_value(),
            near_ttl=settings.cache_near_ttl_ms / 1000,
            observe=metrics.cache_read,
        )
        stack.push_async_callback(catalog.aclose)
        destinations = await stack.enter_async_context(open_context(slack_api_url=settings.slack_api_url))
        store = FailureStore.open(**settings.failure_store_options())
        yield Dependencies(catalog, destinations, store, metrics)


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


async def run_worker(settings: Settings) -> None:
    """Run a worker process until SIGTERM or SIGINT."""
    process = WorkerProcess(settings)
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, process.stop.set)
    await process.run()
