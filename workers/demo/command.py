"""The commands `demo` and `dev`: from options to an exit code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from temporalio.client import Client

from workers.demo.accounting import Account, draw_up
from workers.demo.guide import show_guide
from workers.demo.interruption import InterruptedBySignalError, ignore_signals, until_interrupted
from workers.demo.observing import arrivals, scrape_cache_reads, stored_failures
from workers.demo.records import Record, RecordFile, RecordFileError, bundled_records, read_records
from workers.demo.report import (
    Measurements,
    progress,
    show_account,
    show_delivery,
    show_file,
    show_samples,
    show_verdict,
)
from workers.demo.sending import Message, Outcome, connect, count_history_events, make_messages, run_name, send_all
from workers.demo.stack import Stack, running_stack
from workers.embedded.processes import EmbeddedServerError

ACCOUNTED = 0
NOT_ACCOUNTED = 1
WRONG_USAGE = 2


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `demo` is asked for.

    Attributes:
        file: Log lines to send in place of the bundled records: JSON objects if it ends in .jsonl, else text.
        batch_size: Records a message, at most; None: each record is a message of its own.
    """

    file: Path | None = None
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What `dev` is asked for.

    Attributes:
        worker: Whether to start a worker; without, one of the user's own can be.
    """

    worker: bool = True


async def run_demo(options: DemoOptions) -> int:
    """Send records through the embedded stack and account for each.

    Returns:
        Exit code: 0 if every record is accounted for, 1 if not or if a part of the stack failed, 2 if the file cannot
        be read or holds no record, 128 + n if signal n came.
    """
    console, errors = Console(), Console(stderr=True)
    try:
        return await until_interrupted(_demo(console, options))
    except InterruptedBySignalError as interrupted:
        ignore_signals()
        _say(errors, f"Interrupted ({interrupted}); everything is stopped and removed.")
        return interrupted.exit_code
    except RecordFileError as error:
        _say(errors, str(error))
        return WRONG_USAGE
    except EmbeddedServerError as error:
        _say(errors, str(error))
        return NOT_ACCOUNTED


async def run_dev(options: DevOptions) -> int:
    """Keep the embedded stack up until a signal comes, and print deliveries as they arrive.

    Returns:
        Exit code: 0 once it was told to end, 1 if a part of the stack failed.
    """
    console, errors = Console(), Console(stderr=True)
    try:
        await until_interrupted(_dev(console, options))
    except InterruptedBySignalError:
        ignore_signals()
        _say(console, "Everything is stopped and removed.")
    except EmbeddedServerError as error:
        _say(errors, str(error))
        return NOT_ACCOUNTED
    return ACCOUNTED


async def _demo(console: Console, options: DemoOptions) -> int:
    file = await asyncio.to_thread(_read, options)
    show_file(console, str(options.file or "Bundled records"), file)
    if not file.records:
        raise RecordFileError(f"{options.file}: it holds no record")
    async with running_stack(with_worker=True, announce=console.print) as stack:
        account = await stack.while_running(_send_and_report(console, stack, file.records, options.batch_size))
    return NOT_ACCOUNTED if account.problems else ACCOUNTED


def _read(options: DemoOptions) -> RecordFile:
    return bundled_records() if options.file is None else read_records(options.file)


async def _send_and_report(
    console: Console, stack: Stack, records: Sequence[Record], batch_size: int | None
) -> Account:
    messages = make_messages(records, run_name(), batch_size)
    client = await connect(stack.servers.temporal.address)
    started = time.perf_counter()
    with progress(console, len(records)) as advance:
        outcomes = await send_all(client, messages, lambda message: advance(len(message.records)))
    seconds = time.perf_counter() - started
    failures = await asyncio.to_thread(lambda: list(stored_failures(stack.failures_folder)))
    account = draw_up(outcomes, arrivals(stack.receiver.requests), failures)
    show_account(console, account, await _measure(stack, client, outcomes, seconds))
    show_samples(console, stack.receiver.requests)
    show_verdict(console, account)
    return account


async def _measure(stack: Stack, client: Client, outcomes: Sequence[Outcome], seconds: float) -> Measurements:
    sample = _sample_message(outcomes)
    return Measurements(
        seconds=seconds,
        history_events=await count_history_events(client, sample) if sample else None,
        cache_reads=await scrape_cache_reads(stack.worker.metrics_address) if stack.worker else None,
    )


def _sample_message(outcomes: Sequence[Outcome]) -> Message | None:
    """The message whose result says most, which is one that was delivered; None where there are no results."""
    with_results = [outcome for outcome in outcomes if outcome.result]
    if not with_results:
        return None
    return max(with_results, key=lambda outcome: len(outcome.result.get("node_outputs") or {})).message


async def _dev(console: Console, options: DevOptions) -> None:
    async with running_stack(with_worker=options.worker, announce=console.print) as stack:
        show_guide(console, stack)
        await stack.while_running(_print_deliveries(console, stack))


async def _print_deliveries(console: Console, stack: Stack) -> None:
    while True:
        requests = await stack.receiver.wait_for(1)
        for request in requests:
            show_delivery(console, request)
        requests.clear()


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
