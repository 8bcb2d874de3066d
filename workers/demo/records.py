"""Records to send: the bundled ones, or a file's lines."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]

JSON_LINES_SUFFIXES = frozenset({".jsonl", ".ndjson"})
"""Files with these endings hold a JSON object a line; any other is text."""


class RecordFileError(Exception):
    """A file cannot be read; the message says why."""


class LineError(ValueError):
    """A line holds no record; the message says why and does not quote it."""


@dataclass(slots=True)
class RecordFile:
    """What a file holds.

    Attributes:
        records: In the order of the lines.
        empty_lines: How many lines were skipped because nothing stands in them.
        bad_lines: Line number, from 1, of each that holds no record, and why.
    """

    records: list[Record] = field(default_factory=list)
    empty_lines: int = 0
    bad_lines: list[tuple[int, str]] = field(default_factory=list)


def bundled_records() -> RecordFile:
    """The records that come with the package: some minutes of a web shop's services."""
    data = importlib.resources.files("workers.demo").joinpath("data", "records.jsonl")
    return parse_lines(data.read_bytes(), parse_json_line)


def read_records(path: Path) -> RecordFile:
    """Read a file of log lines.

    Raises:
        RecordFileError: It is not there, no regular file, or cannot be read.
    """
    try:
        if not path.is_file():  # nor a pipe, which could keep a reader waiting
            raise RecordFileError(f"{path}: there is no such file")
        content = path.read_bytes()
    except OSError as error:
        raise RecordFileError(f"{path}: {error.strerror}") from error
    is_json = path.suffix.lower() in JSON_LINES_SUFFIXES
    return parse_lines(content, parse_json_line if is_json else parse_text_line)


def parse_lines(content: bytes, parse: Callable[[bytes], Record]) -> RecordFile:
    """Parse lines that end in LF or CRLF; only those end a line, as text may hold Unicode's other separators."""
    file = RecordFile()
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not lines[-1]:
        lines.pop()  # what follows the last line's end is no line
    for number, line in enumerate(lines, 1):
        if not line.strip():
            file.empty_lines += 1
            continue
        try:
            file.records.append(parse(line.removesuffix(b"\r")))
        except LineError as error:
            file.bad_lines.append((number, str(error)))
    return file


def parse_text_line(line: bytes) -> Record:
    """`{"message": line}`; bytes that are not UTF-8 become U+FFFD."""
    return {"message": line.decode(errors="replace")}


def parse_json_line(line: bytes) -> Record:
    """The JSON object that a line holds, in full: numbers keep their digits.

    Raises:
        LineError: It holds something else.
    """
    try:
        record = json.loads(line.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise LineError("nested too deeply") from None
    except ValueError:  # of the text, of JSON, or of a number with thousands of digits
        raise LineError("not JSON") from None
    if not isinstance(record, dict):
        raise LineError("not a JSON object")
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is Python's, not JSON")
