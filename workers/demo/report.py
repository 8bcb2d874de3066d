"""What the demo prints: progress, the table, sample deliveries, and what is not accounted for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from workers.demo.accounting import PIPELINE, Account
from workers.demo.observing import CacheReads, destination_of
from workers.demo.records import RecordFile
from workers.demo.sample import END_NODES
from workers.embedded.receiver import ReceivedRequest

SHOWN_LINES = 10
"""Of bad lines and of records that are not accounted for; the rest is a number."""

STEPS = 4
"""How often progress is told where there is no terminal to draw a bar on."""

REFRESHES_PER_SECOND = 5

_CONTROLS = re.compile(r"[\x7f-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What was measured beside the account; None where it could not be."""

    seconds: float
    history_events: int | None
    cache_reads: CacheReads | None


def show_file(console: Console, name: str, file: RecordFile) -> None:
    """Say what was read, and which lines were not."""
    _line(console, f"{name}: {_number(len(file.records), 'record')}")
    if file.empty_lines:
        _line(console, f"  {_number(file.empty_lines, 'empty line')} skipped")
    _some(console, [f"  line {number} skipped: {reason}" for number, reason in file.bad_lines])


@contextmanager
def progress(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """A bar, or lines where there is no terminal. Gives a function to be told how many more records are done."""
    if console.is_interactive:
        with _bar(console) as bar:
            task = bar.add_task("Sending", total=total)
            yield lambda done: bar.advance(task, done)
    else:
        yield _Lines(console, total)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=REFRESHES_PER_SECOND,
    )


class _Lines:
    """Progress in lines: one a quarter."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._done = 0
        self._told = 0

    def __call__(self, done: int) -> None:
        self._done += done
        quarter = self._done * STEPS // self._total
        if quarter > self._told:
            self._told = quarter
            _line(self._console, f"  {self._done} of {self._total} done")


def show_account(console: Console, account: Account, measured: Measurements) -> None:
    """The table."""
    table = Table(show_header=False, title="What became of the records", title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for label, value in _rows(account, measured):
        table.add_row(label, value)
    console.print(table)


def _rows(account: Account, measured: Measurements) -> Iterator[tuple[str, str]]:
    yield "records", str(account.records)
    for name, kind in END_NODES.items():
        yield f"{name} ({kind}): delivered", str(account.delivered[name])
        yield f"{name} ({kind}): failed", str(account.failed[name])
    yield "failed in the pipeline", str(account.failed[PIPELINE])
    yield "filtered", str(account.filtered)
    if account.repeated:
        yield "deliveries that arrived again", str(account.repeated)
    yield "records/s", f"{account.records / measured.seconds:.1f}"
    yield "history events of one message", _known(measured.history_events)
    reads = measured.cache_reads
    yield "cache reads answered by the process itself", _known(reads.near if reads else None)
    yield "cache reads answered by Redis", _known(reads.redis if reads else None)
    yield "cache reads answered by MongoDB", _known(reads.mongodb if reads else None)
    yield "accounted for", f"{account.records - account.unaccounted} of {account.records}"


def show_samples(console: Console, requests: Sequence[ReceivedRequest]) -> None:
    """One delivery of each destination, as it arrived."""
    for name in END_NODES:
        for request in requests:
            if destination_of(request) == name:
                _line(console, f"\nA delivery to {name}, as it arrived:\n{request.method} {request.path}")
                _line(console, _printable(console, request, indent=2))
                break


def show_delivery(console: Console, request: ReceivedRequest) -> None:
    """A delivery on one line."""
    _line(console, f"{destination_of(request)}: {_printable(console, request)}")


def show_verdict(console: Console, account: Account) -> None:
    """Whether every record is accounted for, and which are not."""
    if not account.problems:
        _line(console, f"\nAll {_number(account.records, 'record')} are accounted for.")
        return
    _line(console, f"\nNot accounted for: {_number(account.unaccounted, 'record')}.")
    _some(console, [f"  {name}: {problem}" for name, problem in account.problems])


def _printable(console: Console, request: ReceivedRequest, indent: int | None = None) -> str:
    """The body as JSON text without control characters: what records hold must not steer the terminal."""
    try:
        body = request.json
    except ValueError:
        body = request.body.decode(errors="replace")
    text = _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(body, ensure_ascii=False, indent=indent))
    return text.encode(console.encoding, "backslashreplace").decode(console.encoding)


def _known(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _some(console: Console, lines: Sequence[str]) -> None:
    for line in lines[:SHOWN_LINES]:
        _line(console, line)
    if len(lines) > SHOWN_LINES:
        _line(console, f"  and {len(lines) - SHOWN_LINES} more")


def _line(console: Console, text: str) -> None:
    """Print text as it is: nothing in it is markup, and only the terminal breaks lines."""
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
