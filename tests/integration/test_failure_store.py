"""The failure store in a folder, in memory and on an S3 server: what is written, and what happens when it is away."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiohttp import web
from obstore.store import S3Store

from activities.contracts import ErrorDetails, FailureReport, MessageId
from activities.errors import InvalidConfigurationError, InvalidRecordError, NotFoundError, UnavailableError
from activities.failure_store import FailureStore
from tests.object_storage import make_bucket, start_s3
from workers.embedded.servers import Server, free_port, running

ACCESS_KEY = "planted-access-key"
SECRET_KEY = "planted-secret-key"
CONTENTS = "planted-contents"
REPORT = FailureReport(
    message=MessageId(organisation_id="org-1", project_id="prj-1", pipeline_id="pl-1", message_id="msg-1"),
    workflow="MainWorkflow",
    activity="deliver",
    timestamp="2026-01-02T03:04:05.000006+00:00",
    original_input={"level": "error", "note": CONTENTS},
    current_input={"level": "error"},
    error=ErrorDetails(type="RejectedError", message="refused", stack="a.py:1", description="delivering"),
    context={"node_id": "n-1"},
)


def s3_store(address: str, url: str) -> FailureStore:
    return FailureStore.open(url, endpoint=address, access_key=ACCESS_KEY, secret_key=SECRET_KEY)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def s3_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """An S3 server that tests leave running."""
    async with running(start_s3(tmp_path_factory.mktemp("s3"))) as server:
        yield server


@dataclass(frozen=True)
class Opened:
    """A store, and how to open it again, as another process does."""

    store: FailureStore
    again: Callable[[], FailureStore]


@pytest.fixture(params=["folder", "memory", "s3", "s3 with a prefix"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path, s3_server: Server) -> Opened:
    """Each kind of store in turn, empty."""
    if request.param == "memory":
        store = FailureStore.open("memory:///")
        return Opened(store, lambda: store)
    if request.param == "folder":
        url = (tmp_path / "not there yet" / "failures").as_uri()
        return Opened(FailureStore.open(url), lambda: FailureStore.open(url))
    bucket = f"bucket-{uuid4().hex}"
    await make_bucket(s3_server, bucket)
    url = f"s3://{bucket}" + ("/some/prefix/" if "prefix" in request.param else "")
    return Opened(s3_store(s3_server.address, url), lambda: s3_store(s3_server.address, url))


@pytest.fixture
def store(opened: Opened) -> FailureStore:
    return opened.store


@pytest.fixture(autouse=True)
def talkative(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


async def all_keys(store: FailureStore, prefix: str = "") -> list[str]:
    return [key async for key in store.keys(prefix)]


async def test_a_failure_has_the_contracts_fields(opened: Opened) -> None:
    key = await opened.store.put(REPORT)
    assert await opened.again().get(key) == {
        "timestamp": "2026-01-02T03:04:05.000006+00:00",
        "organisationId": "org-1",
        "projectId": "prj-1",
        "pipelineId": "pl-1",
        "messageId": "msg-1",
        "originalInput": {"level": "error", "note": CONTENTS},
        "currentInput": {"level": "error"},
        "error": {"message": "refused", "type": "RejectedError", "stack": "a.py:1", "description": "delivering"},
        "context": {"node_id": "n-1"},
    }


async def test_without_a_current_input_it_is_the_original_and_an_empty_context_is_left_out(store: FailureStore) -> None:
    document = await store.get(await store.put(replace(REPORT, current_input=None, context={})))
    assert document["currentInput"] == document["originalInput"] == REPORT.original_input
    assert "context" not in document


async def test_storing_again_changes_nothing(store: FailureStore) -> None:
    """A retry after a lost answer finds it there; the first one stands."""
    key = await store.put(REPORT)
    assert await store.put(replace(REPORT, original_input="another")) == key
    assert await all_keys(store) == [key]
    assert (await store.get(key))["originalInput"] == REPORT.original_input


async def test_keys_are_listed_by_whole_parts(store: FailureStore) -> None:
    first = await store.put(REPORT)
    second = await store.put(replace(REPORT, message=replace(REPORT.message, message_id="msg-2")))
    third = await store.put(replace(REPORT, message=replace(REPORT.message, organisation_id="org-10")))
    assert sorted(await all_keys(store)) == sorted([first, second, third])
    assert sorted(await all_keys(store, "org-1")) == sorted([first, second])
    assert await all_keys(store, "org-1/prj-1/pl-1/msg-2") == [second]
    assert await all_keys(store, "org-2") == []


@pytest.mark.parametrize(
    "evil", ["..", "../..", "/", "a/../../b", ".", "", "\x00\n", "\ud800", "x" * 3000], ids=lambda evil: ascii(evil[:9])
)
async def test_any_id_can_be_stored_and_read(store: FailureStore, evil: str) -> None:
    message = MessageId(organisation_id=evil, project_id=evil, pipeline_id=evil, message_id=evil)
    key = await store.put(replace(REPORT, message=message, workflow=evil))
    assert await all_keys(store) == [key]
    assert (await store.get(key))["messageId"] == evil


async def test_a_folder_is_not_left(tmp_path: Path) -> None:
    store = FailureStore.open((tmp_path / "failures").as_uri())
    message = MessageId(organisation_id="..", project_id="..", pipeline_id="../..", message_id="/etc")
    await store.put(replace(REPORT, message=message))
    assert [path.name for path in tmp_path.iterdir()] == ["failures"]


def nested(depth: int) -> Any:
    value: Any = CONTENTS
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (float("nan"), None),
        ({"deep": [float("inf"), -float("inf"), 1.5]}, {"deep": [None, None, 1.5]}),
        ("a\ud800b", "a\ud800b"),
        ({"\udfff": [float("nan"), "NaN"]}, {"\udfff": [None, "NaN"]}),
        (2**80, 2**80),
        ("naïve 😀 \x00", "naïve 😀 \x00"),
        (nested(400), nested(400)),
        (None, None),
        ([], []),
    ],
    ids=["nan", "infinities", "surrogate", "both", "80 bits", "unicode", "400 levels", "null", "empty"],
)
async def test_hostile_inputs_can_be_stored(value: object, stored: object) -> None:
    store = FailureStore.open("memory:///")
    document = await store.get(await store.put(replace(REPORT, original_input=value, current_input=value)))
    assert document["originalInput"] == stored
    assert document["currentInput"] == stored


@pytest.mark.parametrize("value", [nested(100_000), 10**5000], ids=["100,000 levels", "5,000 digits"])
async def test_a_failure_whose_input_no_json_can_hold_is_stored_without_it(value: object) -> None:
    store = FailureStore.open("memory:///")
    document = await store.get(await store.put(replace(REPORT, original_input=value)))
    assert document["originalInput"] is None
    assert document["context"] == {"node_id": "n-1", "inputsOmitted": True}
    assert document["error"]["message"] == "refused"


async def test_what_is_stored_is_json_for_everybody(tmp_path: Path) -> None:
    """NaN and raw surrogates are in no JSON that other languages read."""
    store = FailureStore.open(tmp_path.as_uri())
    key = await store.put(replace(REPORT, original_input={"a": float("nan"), "b": "\ud800"}))
    text = (tmp_path / key).read_bytes().decode("utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=refuse)["originalInput"] == {"a": None, "b": "\ud800"}


async def test_a_missing_failure_is_not_found(store: FailureStore) -> None:
    with pytest.raises(NotFoundError, match="no failure org-1/nothing"):
        await store.get("org-1/nothing.json")


@pytest.mark.parametrize("content", ["", "{", "[]", "7"])
async def test_what_is_no_failure_is_refused_and_not_quoted(tmp_path: Path, content: str) -> None:
    (tmp_path / "org-1").mkdir()
    (tmp_path / "org-1" / "other.json").write_text(content)
    with pytest.raises(InvalidRecordError, match=r"org-1/other\.json is no failure$"):
        await FailureStore.open(tmp_path.as_uri()).get("org-1/other.json")


async def test_a_store_that_answers_passes_its_check(store: FailureStore) -> None:
    await store.check()


async def assert_unavailable(store: FailureStore, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """Every operation fails as unavailable and tells no secret; a put, which is what matters, tells why."""
    for operation, told_reason in (
        (store.put, reason),
        (lambda _: store.check(), "list"),
        (lambda _: all_keys(store), "list"),
    ):
        with pytest.raises(UnavailableError, match=told_reason) as raised:
            await operation(REPORT)
        assert raised.value.__suppress_context__
        for told in (str(raised.value), repr(raised.value), repr(store), caplog.text):
            assert "planted" not in told


async def test_a_server_that_is_away_is_unavailable_until_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    store = s3_store(f"127.0.0.1:{port}", "s3://failures")
    await assert_unavailable(store, caplog, "bucket failures cannot be reached")
    async with running(start_s3(tmp_path, port=port)) as server:
        await make_bucket(server, "failures")
        key = await store.put(REPORT)
        assert await all_keys(store) == [key]
    await assert_unavailable(store, caplog, "bucket failures cannot be reached")


async def test_a_missing_bucket_is_unavailable_until_it_is_made(
    s3_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    store = s3_store(s3_server.address, "s3://not-made-yet")
    await assert_unavailable(store, caplog, "bucket not-made-yet does not exist")
    await make_bucket(s3_server, "not-made-yet")
    await store.put(REPORT)


async def test_refused_access_is_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(request: web.BaseRequest) -> web.Response:
        await request.read()
        body = f"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>"
        return web.Response(status=403, text=body, content_type="application/xml")

    runner = web.ServerRunner(web.Server(refuse, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        await assert_unavailable(s3_store(f"{host}:{port}", "s3://failures"), caplog, "bucket failures refuses access")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "failures",
        "/planted/failures",
        "http://planted/failures",
        "file://planted/failures",
        "file:planted",
        "file:///a?planted=1",
        "s3://",
        "s3:///planted",
        f"s3://{ACCESS_KEY}:{SECRET_KEY}@failures",
        "s3://bucket/../planted",
        "s3://[planted",
    ],
)
def test_an_unusable_address_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(InvalidConfigurationError, match="failure store") as raised:
        FailureStore.open(url)
    assert "planted" not in str(raised.value)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidConfigurationError, match="file/failures cannot be used"):
        FailureStore.open((tmp_path / "file" / "failures").as_uri())


def test_the_repr_masks_all_but_the_bucket() -> None:
    assert repr(s3_store("127.0.0.1:1", "s3://failures/prefix")) == "FailureStore(bucket failures)"


@pytest.mark.parametrize(
    ("endpoint", "secure", "address"),
    [
        ("s3.invalid:9000", False, "http://s3.invalid:9000"),
        ("s3.invalid:9000", True, "https://s3.invalid:9000"),
        ("https://s3.invalid", False, "https://s3.invalid"),
        ("http://s3.invalid", True, "http://s3.invalid"),
    ],
)
def test_an_endpoint_speaks_tls_as_it_says_or_else_as_told(endpoint: str, secure: bool, address: str) -> None:
    store = FailureStore.open("s3://failures", endpoint=endpoint, access_key="a", secret_key="b", secure=secure)
    assert isinstance(store._store, S3Store)
    assert store._store.config["endpoint"] == address
