"""What the demo prints, on a terminal and into a pipe."""

from __future__ import annotations

import io
import json

from rich.console import Console

from workers.demo.accounting import Account
from workers.demo.observing import CacheReads
from workers.demo.records import RecordFile
from workers.demo.report import Measurements, progress, show_account, show_delivery, show_file, show_verdict
from workers.embedded.receiver import ReceivedRequest


def _console(*, terminal: bool = False, encoding: str = "utf-8") -> tuple[Console, io.TextIOWrapper]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(file=file, force_terminal=terminal, width=80, _environ={"TERM": "xterm"}), file


def _printed(file: io.TextIOWrapper) -> str:
    return file.buffer.getvalue().decode(file.encoding)  # type: ignore[attr-defined]


def test_progress_in_a_pipe_is_a_line_a_quarter_without_control_codes() -> None:
    console, file = _console()
    with progress(console, 200) as advance:
        for _ in range(200):
            advance(1)
    assert _printed(file).split("\n") == [
        "  50 of 200 done",
        "  100 of 200 done",
        "  150 of 200 done",
        "  200 of 200 done",
        "",
    ]


def test_progress_on_a_terminal_is_a_bar() -> None:
    console, file = _console(terminal=True)
    with progress(console, 2) as advance:
        advance(2)
    assert "2/2" in _printed(file)
    assert "\x1b[" in _printed(file)


def _delivery(body: bytes) -> ReceivedRequest:
    return ReceivedRequest(method="POST", path="/hook/archive", headers={}, body=body)


def test_what_a_record_holds_cannot_steer_the_terminal() -> None:
    console, file = _console(terminal=True)
    record = {"message": "\x1b[2J[bold]red[/] \x9b31m \N{CHECK MARK}"}
    show_delivery(console, _delivery(json.dumps(record, ensure_ascii=False).encode()))
    assert _printed(file) == 'archive: {"message": "\\u001b[2J[bold]red[/] \\u009b31m \N{CHECK MARK}"}\n'


def test_a_terminal_without_unicode_gets_escapes() -> None:
    console, file = _console(encoding="ascii")
    show_delivery(console, _delivery('"\N{CHECK MARK}"'.encode()))
    assert _printed(file) == 'archive: "\\u2713"\n'


def test_half_a_character_is_printed_as_its_escape() -> None:
    """A lone surrogate has no UTF-8."""
    console, file = _console()
    show_delivery(console, _delivery(b'"\\ud800"'))
    assert _printed(file) == 'archive: "\\ud800"\n'


def test_skipped_lines_are_told_by_number_up_to_a_limit() -> None:
    console, file = _console()
    bad = [(number, "not JSON") for number in range(1, 13)]
    show_file(console, "app.jsonl", RecordFile(records=[{}], empty_lines=2, bad_lines=bad))
    lines = _printed(file).splitlines()
    assert lines[:3] == ["app.jsonl: 1 record", "  2 empty lines skipped", "  line 1 skipped: not JSON"]
    assert lines[-1] == "  and 2 more"


def test_the_table_holds_every_figure() -> None:
    console, file = _console()
    account = Account(records=200, filtered=49, unaccounted=1, delivered={"alerts": 19, "archive": 132})
    reads = CacheReads(near=790, redis=4, mongodb=6)
    show_account(console, account, Measurements(seconds=4, history_events=14, cache_reads=reads))
    cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in _printed(file).splitlines()]
    rows = dict(row for row in cells if len(row) == 2)
    assert rows == {
        "records": "200",
        "alerts (Slack): delivered": "19",
        "alerts (Slack): failed": "0",
        "archive (webhook): delivered": "132",
        "archive (webhook): failed": "0",
        "failed in the pipeline": "0",
        "filtered": "49",
        "records/s": "50.0",
        "history events of one message": "14",
        "cache reads answered by the process itself": "790",
        "cache reads answered by Redis": "4",
        "cache reads answered by MongoDB": "6",
        "accounted for": "199 of 200",
    }


def test_the_verdict_names_what_is_not_accounted_for() -> None:
    console, file = _console()
    account = Account(records=5)
    account.add_problem("demo-0-1", "never arrived at alerts")
    show_verdict(console, account)
    assert _printed(file).splitlines() == ["", "Not accounted for: 1 record.", "  demo-0-1: never arrived at alerts"]
