"""The Temporal runtime: its Prometheus endpoint, and the core's own log lines sent to Python's logging."""

from __future__ import annotations

import asyncio
import logging
import socket

from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from activities.metrics import CACHE_READ_BUCKETS, CACHE_READ_SECONDS
from workers.settings import UnusableSettingError

CORE_LOGGER = "temporalio.core"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what an address without a host asks for


async def create_runtime(metrics_address: str) -> Runtime:
    """A runtime that serves metrics on `host:port`, or none where that is empty.

    Args:
        metrics_address: A name is looked up; without a host it is every interface.

    Raises:
        UnusableSettingError: The address cannot be found or listened on.
    """
    try:
        return _runtime(await _endpoint(metrics_address) if metrics_address else None)
    except (OSError, ValueError, RuntimeError) as error:
        raise UnusableSettingError(f"METRICS_ADDRESS: {metrics_address} cannot be listened on ({error})") from None


async def _endpoint(address: str) -> PrometheusConfig:
    buckets = {CACHE_READ_SECONDS: CACHE_READ_BUCKETS}
    return PrometheusConfig(bind_address=await _numeric(address), histogram_bucket_overrides=buckets)


async def _numeric(address: str) -> str:
    """The address with its host as a number: the runtime takes no names."""
    name, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name.strip("[]") or EVERYWHERE, int(port), type=socket.SOCK_STREAM)
    family, *_, (host, *_) = found[0]
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


def _runtime(metrics: PrometheusConfig | None) -> Runtime:
    forwarding = LogForwardingConfig(logger=logging.getLogger(CORE_LOGGER), append_target_to_name=False)
    logs = LoggingConfig(filter=TelemetryFilter(core_level="WARN", other_level="ERROR"), forwarding=forwarding)
    return Runtime(telemetry=TelemetryConfig(logging=logs, metrics=metrics))
