"""What `dev` prints once it is up: where everything listens, and commands to try."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from workers.demo.sample import PIPELINE_ID, TASK_QUEUE
from workers.demo.sending import WORKFLOW_TYPE, Message
from workers.demo.stack import Stack
from workers.embedded.servers import executable

EXAMPLE = Message(
    message_id="try-1",
    records=[
        {
            "level": "ERROR",
            "service": "cart",
            "message": "the first message of mine",
            "context": {"basket": 7},
            "messageId": "try-1",
        }
    ],
)


def show_guide(console: Console, stack: Stack) -> None:
    """Print addresses and commands."""
    for line in _lines(stack):
        console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _lines(stack: Stack) -> Iterator[str]:
    yield ""
    for name, address in _addresses(stack):
        yield f"{name:<18}{address}"
    yield ""
    for purpose, command in _commands(stack):
        yield f"# {purpose}"
        yield command
    yield ""
    yield f"Pipeline {PIPELINE_ID} is stored. Deliveries are printed as they arrive."
    yield "Ctrl-C stops and removes everything."


def _addresses(stack: Stack) -> Iterator[tuple[str, str]]:
    servers = stack.servers
    yield "Temporal", servers.temporal.address
    yield "Temporal's web UI", servers.ui_url
    yield "Redis (Valkey)", servers.redis_url
    yield "MongoDB", servers.mongo_url
    yield "Receiver", f"{stack.receiver.url} (Slack's API below /api/, webhooks below /hook/)"
    yield "Failure store", stack.failures_folder.as_uri()
    if stack.worker is not None:
        yield "Worker's health", f"http://{stack.worker.server.address}/readyz"
        yield "Worker's metrics", f"http://{stack.worker.metrics_address}/metrics"
        yield "Worker's log", str(stack.worker.server.log_path)


def _commands(stack: Stack) -> Iterator[tuple[str, str]]:
    temporal = shlex.quote(_short(executable("temporal")))
    address = f"--address {stack.servers.temporal.address}"
    message = f"--workflow-id {EXAMPLE.workflow_id}"
    argument = shlex.quote(json.dumps(EXAMPLE.argument))
    start = f"--type {WORKFLOW_TYPE} --task-queue {TASK_QUEUE} {message} --input {argument}"
    yield "send a message, as the API server does", f"{temporal} workflow start {address} {start}"
    yield "what became of it", f"{temporal} workflow result {address} {message}"
    yield "its history", f"{temporal} workflow show {address} {message}"
    yield "all messages", f"{temporal} workflow list {address}"
    environment = shlex.quote(str(stack.write_environment()))
    worker = shlex.quote(_short(executable("datanadhi-worker")))
    yield "another worker, of your own", f"(set -a; . {environment}; {worker} run)"


def _short(path: str) -> str:
    """The path as seen from here, where it lies below."""
    here = Path.cwd()
    return f"./{Path(path).relative_to(here)}" if Path(path).is_relative_to(here) else path
