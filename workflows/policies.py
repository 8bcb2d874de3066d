"""Every timeout and every retry of the workflow, named."""

from __future__ import annotations

from datetime import timedelta
from typing import TypedDict

from temporalio.common import RetryPolicy


class LocalActivityPolicy(TypedDict):
    """What `execute_local_activity` takes."""

    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    local_retry_threshold: timedelta
    retry_policy: RetryPolicy


class ActivityPolicy(TypedDict, total=False):
    """What `execute_activity` takes."""

    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy


PATIENCE = timedelta(hours=24)
"""How long a message waits for MongoDB or a destination that is away before it becomes a stored failure."""

LOOKUP = LocalActivityPolicy(
    start_to_close_timeout=timedelta(seconds=15),
    schedule_to_close_timeout=PATIENCE,
    # A longer wait becomes a timer, so that an outage holds no workflow task open.
    local_retry_threshold=timedelta(seconds=5),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=500), backoff_coefficient=2, maximum_interval=timedelta(seconds=30)
    ),
)
"""Reading a pipeline's configuration: through the cache, so it takes milliseconds or MongoDB is away."""

PROCESS = LocalActivityPolicy(
    start_to_close_timeout=timedelta(seconds=60),
    schedule_to_close_timeout=PATIENCE,
    local_retry_threshold=LOOKUP["local_retry_threshold"],
    retry_policy=LOOKUP["retry_policy"],
)
"""Running records through their pipeline: no I/O but the look-up of the nodes."""

DELIVER = ActivityPolicy(
    start_to_close_timeout=timedelta(minutes=10),
    schedule_to_close_timeout=PATIENCE,
    # A worker beats every second, so this long a silence means that it died: another one goes on where it stopped.
    heartbeat_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(minutes=5)
    ),
)
"""Delivering to a target: many items, to a destination that may take its time over each."""

LOG_FAILURE = ActivityPolicy(
    start_to_close_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(minutes=1)
    ),
)
"""Storing a failure: retried until the store is back, for nothing else would know of the record."""

DESTINATION_QUEUE_SUFFIX = "-destination"
"""Appended to the workflow's task queue: where deliveries and failures are queued."""

CHUNK_RECORDS = 500
"""Records of a batch that are processed and delivered at a time."""

CHUNK_BYTES = 256 * 1024
"""Their size as JSON at most (one record may be larger)."""

BYTES_PER_TASK = 1_000_000
"""What the activities that one workflow task asks for may hold together (one alone may hold more): they go to the
server in one message of 4 MB at most, beside the result of `process_records`."""

NEXT_TASK = timedelta(milliseconds=1)
"""A timer that only ends a workflow task."""

FAILURES_TOGETHER = 100
"""Failures that one activity stores."""

FAILURES_TOGETHER_BYTES = 500_000
"""Their size at most (one may be larger)."""

REPORT_LIMIT_BYTES = 1_900_000
"""What a failure report may hold; inputs beyond it are left out, and the report says so."""

DRAIN = timedelta(seconds=25)
"""What running activities get when the process is told to stop; orchestrators wait 30 s before they kill."""

HEARTBEAT_INTERVAL = timedelta(seconds=1)
"""How often the progress of a delivery is told to the server at most."""
