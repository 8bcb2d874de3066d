"""What is seen of a run: ids in deliveries, stored failures, the worker's counters."""

from __future__ import annotations

import json
from pathlib import Path

from workers.demo.accounting import Arrival, StoredFailure
from workers.demo.observing import CacheReads, arrivals, count_cache_reads, stored_failures
from workers.embedded.receiver import ReceivedRequest

ID = "demo-0123abcd-0000042"


def _request(path: str, body: object) -> ReceivedRequest:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ReceivedRequest(method="POST", path=path, headers={"Content-Type": "application/json"}, body=content)


def _slack(text: str) -> ReceivedRequest:
    return _request("/api/chat.postMessage", {"channel": "#alerts", "text": text})


def test_a_webhook_delivery_is_known_by_its_records_message_id() -> None:
    assert list(arrivals([_request("/hook/archive", {"messageId": ID})])) == [Arrival("archive", ID)]


def test_a_slack_delivery_is_known_by_the_id_at_its_texts_end() -> None:
    """An id that the record itself quotes does not count."""
    assert list(arrivals([_slack(f"demo-00000000-0000001 failed\nmessage {ID}")])) == [Arrival("alerts", ID)]


def test_a_delivery_without_an_id_is_still_an_arrival() -> None:
    requests = [_slack("hello"), _request("/api/chat.postMessage", b"\xff"), _request("/hook/archive", b"[]")]
    assert [arrival.record_id for arrival in arrivals(requests)] == [None, None, None]


def _store(folder: Path, name: str, failure: dict[str, object]) -> None:
    path = folder / "acme" / "webshop" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(failure))


def test_a_stored_failure_tells_its_place_and_record(tmp_path: Path) -> None:
    _store(tmp_path, "1.json", {"messageId": "m", "context": {"targetId": "alerts", "recordIndex": 3}})
    _store(tmp_path, "2.json", {"messageId": "m", "context": {"nodeId": "tag", "recordIndex": 0}})
    _store(tmp_path, "3.json", {"messageId": "m"})
    assert list(stored_failures(tmp_path)) == [
        StoredFailure("alerts", "m", 3),
        StoredFailure("pipeline", "m", 0),
        StoredFailure("pipeline", "m", 0),
    ]


def test_a_store_that_was_never_written_holds_no_failure(tmp_path: Path) -> None:
    assert list(stored_failures(tmp_path / "none")) == []


def test_cache_reads_are_summed_by_the_layer_that_answered() -> None:
    """With or without the suffix that Prometheus' newer format demands; other counters are left alone."""
    metrics = """\
# TYPE datanadhi_cache_reads counter
datanadhi_cache_reads{family="pipeline",outcome="near",service_name="x"} 190
datanadhi_cache_reads{outcome="near",family="workflow"} 5
datanadhi_cache_reads_total{family="target",outcome="negative"} 2
datanadhi_cache_reads{family="pipeline",outcome="hit"} 3
datanadhi_cache_reads{family="pipeline",outcome="miss"} 1
datanadhi_cache_reads{family="workflow",outcome="bypass"} 1e1
datanadhi_records 200
"""
    assert count_cache_reads(metrics) == CacheReads(near=197, redis=3, mongodb=11)
