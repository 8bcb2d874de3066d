"""Reading the records to send: bytes, line ends, bad lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.demo.records import RecordFileError, bundled_records, read_records


def _read(tmp_path: Path, name: str, content: bytes) -> tuple[list[dict[str, object]], int, list[tuple[int, str]]]:
    path = tmp_path / name
    path.write_bytes(content)
    file = read_records(path)
    return file.records, file.empty_lines, file.bad_lines


def test_each_line_of_text_becomes_a_message(tmp_path: Path) -> None:
    assert _read(tmp_path, "app.log", b"one\ntwo\n") == ([{"message": "one"}, {"message": "two"}], 0, [])


def test_crlf_is_stripped_and_other_spaces_are_kept(tmp_path: Path) -> None:
    records, _, _ = _read(tmp_path, "app.log", b"  one \r\ntwo")
    assert records == [{"message": "  one "}, {"message": "two"}]


def test_bytes_that_are_not_utf8_are_replaced(tmp_path: Path) -> None:
    records, _, _ = _read(tmp_path, "app.txt", b"caf\xe9\n")
    assert records == [{"message": "caf\N{REPLACEMENT CHARACTER}"}]


def test_empty_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    assert _read(tmp_path, "app.log", b"\n\r\none\n   \n") == ([{"message": "one"}], 3, [])


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    assert _read(tmp_path, "app.jsonl", b'\xef\xbb\xbf{"a": 1}\n') == ([{"a": 1}], 0, [])


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    """Unicode's line separators, form feeds and lone carriage returns are part of the text."""
    content = "one\u2028two\x0cthree\rfour\n"
    records, _, _ = _read(tmp_path, "app.log", content.encode())
    assert records == [{"message": content.removesuffix("\n")}]


@pytest.mark.parametrize("name", ["app.jsonl", "app.JSONL", "app.ndjson"])
def test_json_lines_hold_an_object_each(tmp_path: Path, name: str) -> None:
    assert _read(tmp_path, name, b'{"level": "INFO"}\r\n{"n": 2}') == ([{"level": "INFO"}, {"n": 2}], 0, [])


@pytest.mark.parametrize("bad", [b"{", b"[1]", b'"text"', b"null", b'{"a": NaN}', b"\xff", b"{} {}", b'{"a":' * 9999])
def test_a_line_that_holds_no_object_is_reported_by_number_and_the_others_are_read(tmp_path: Path, bad: bytes) -> None:
    records, _, bad_lines = _read(tmp_path, "app.jsonl", b'{"a": 1}\n\n' + bad + b'\n{"b": 2}\n')
    assert records == [{"a": 1}, {"b": 2}]
    assert [number for number, _ in bad_lines] == [3]


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    records, _, _ = _read(tmp_path, "app.jsonl", b'{"n": 123456789012345678901234567890}')
    assert records == [{"n": 123456789012345678901234567890}]


def test_a_bad_lines_reason_does_not_quote_it(tmp_path: Path) -> None:
    _, _, bad_lines = _read(tmp_path, "app.jsonl", b'{"password": "hunter2"\n')
    assert "hunter2" not in str(bad_lines)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.log", tmp_path):
        with pytest.raises(RecordFileError, match=str(path)):
            read_records(path)


def test_an_empty_file_holds_no_record(tmp_path: Path) -> None:
    assert _read(tmp_path, "app.log", b"") == ([], 0, [])


def test_bundled_records_show_every_branch_of_the_sample_pipeline() -> None:
    """Each is an object with a level; some are filtered (DEBUG) and some errors hold credentials to scrub."""
    file = bundled_records()
    levels = {record["level"] for record in file.records}
    scrubbed = [record for record in file.records if "credentials" in json.dumps(record.get("context", {}))]
    assert (len(file.records), file.empty_lines, file.bad_lines) == (200, 0, [])
    assert levels == {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
    assert scrubbed
    assert {record["level"] for record in scrubbed} <= {"ERROR", "CRITICAL"}
