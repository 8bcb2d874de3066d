"""The Temporal runtime: its Prometheus endpoint, and the core's own log lines sent to Python's logging."""

from __future__ import annotations

import logging

from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

CORE_LOGGER = "temporalio.core"


def create_runtime(metrics_address: str) -> Runtime:
    """A runtime that serves metrics on `host:port`, or none where that is empty."""
    metrics = PrometheusConfig(bind_address=metrics_address) if metrics_address else None
    forwarding = LogForwardingConfig(logger=logging.getLogger(CORE_LOGGER), append_target_to_name=False)
    logs = LoggingConfig(filter=TelemetryFilter(core_level="WARN", other_level="ERROR"), forwarding=forwarding)
    return Runtime(telemetry=TelemetryConfig(logging=logs, metrics=metrics))
