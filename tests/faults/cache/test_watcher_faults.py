"""The watcher while Redis, MongoDB or another watcher fails: nothing is missed, said twice, or raised."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import bson
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from redis.asyncio import Redis

from cache import change_stream, keys, watcher
from cache.invalidation import Invalidator
from cache.redis_cache import RedisCache
from cache.watcher import Watcher
from workers.embedded.servers import Server, free_port, running, start_mongodb, start_valkey

DATABASE = "faults"
IDS = ("o", "p", "l")
DOCUMENT = dict(zip(("organisationId", "projectId", "pipelineId"), IDS, strict=True))
WORKFLOW, OTHER = keys.workflow(*IDS), keys.workflow("o", "p", "other")
PATIENCE_SECONDS = 30
LOCK_SECONDS = 1.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MongoDB that is away is noticed sooner, so that tests end sooner."""
    monkeypatch.setattr(watcher, "CONNECT_MILLISECONDS", 500)
    monkeypatch.setattr(watcher, "HEARTBEAT_MILLISECONDS", 500)


@pytest_asyncio.fixture
async def own_mongodb(tmp_path: Path) -> AsyncIterator[Server]:
    """A MongoDB-protocol server that a test may break, with one node of one pipeline."""
    async with running(start_mongodb(tmp_path / "mongodb")) as server:
        await _edit(server)
        yield server


@contextlib.asynccontextmanager
async def _redis(server: Server) -> AsyncIterator[RedisCache]:
    """A client as another process has it."""
    redis = RedisCache(f"redis://{server.address}/0", first_cooldown=0.05, longest_cooldown=0.2)
    yield redis
    await redis.aclose()


def _watcher(redis: RedisCache, mongodb: Server, **options: Any) -> Watcher:
    url = f"mongodb://{mongodb.address}/?directConnection=true"
    return Watcher(redis, url, DATABASE, Invalidator(redis), **{"lock_seconds": LOCK_SECONDS, **options})


@contextlib.asynccontextmanager
async def _watching(valkey: Server, mongodb: Server, **options: Any) -> AsyncIterator[Watcher]:
    """A watcher that is at it."""
    async with _redis(valkey) as redis, _watcher(redis, mongodb, **options).running() as one:
        await _until(one, lambda watcher: watcher.watching)
        yield one


async def _until(one: Watcher, condition: Callable[[Watcher], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await one.until(condition)


async def _edit(mongodb: Server) -> None:
    """Insert or change the pipeline's node."""
    async with AsyncMongoClient(f"mongodb://{mongodb.address}/?directConnection=true") as client:
        await client[DATABASE]["PipelineNodes"].update_one(DOCUMENT, {"$inc": {"edits": 1}}, upsert=True)


async def _write_history(mongodb: Server) -> None:
    """So much that the server looks what is too old; it does so every thousand writes."""
    async with AsyncMongoClient(f"mongodb://{mongodb.address}/?directConnection=true") as client:
        await client[DATABASE]["Others"].insert_many([{} for _ in range(2_500)])


@contextlib.asynccontextmanager
async def _raw(valkey: Server) -> AsyncIterator[Redis]:
    async with Redis.from_url(f"redis://{valkey.address}") as client:
        yield client


async def _fill(valkey: Server) -> None:
    async with _raw(valkey) as raw:
        await raw.mset({WORKFLOW: "x", OTHER: "x"})


async def _cached(valkey: Server) -> set[str]:
    async with _raw(valkey) as raw:
        return {name for name in (WORKFLOW, OTHER) if await raw.exists(name)}


async def _token(valkey: Server) -> bytes | None:
    async with _raw(valkey) as raw:
        token: bytes | None = await raw.hget(keys.watch_state(DATABASE), "token")
        return token


async def _eventually(condition: Callable[[], bool]) -> None:
    """Wait for what announces itself to nobody."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 as it says
            await asyncio.sleep(0.02)


async def _restarted(server: Server, tmp_path: Path) -> Server:
    """Another Valkey on the port of a killed one, in its folder."""
    await server.kill()
    return await start_valkey(tmp_path / "valkey", port=server.port)


def _said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(record.name == "cache.watcher" and text in record.getMessage() for record in caplog.records)


ANOTHER_PROCESS = """
    import asyncio, sys
    from cache.invalidation import Invalidator
    from cache.redis_cache import RedisCache
    from cache.watcher import Watcher

    async def main():
        redis = RedisCache(sys.argv[1])
        async with Watcher(redis, sys.argv[2], sys.argv[3], Invalidator(redis)).running() as watcher:
            await watcher.until(lambda one: one.watching)
            print("watching", flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


async def test_another_worker_takes_over_within_15_seconds_when_one_is_killed(
    own_valkey: Server, mongodb: Server
) -> None:
    """As workers are by default, and an edit that nobody saw is not missed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(ANOTHER_PROCESS)),
        *(f"redis://{own_valkey.address}/0", f"mongodb://{mongodb.address}/?directConnection=true", DATABASE),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"watching\n"
    async with _redis(own_valkey) as redis:
        second = _watcher(redis, mongodb, lock_seconds=watcher.LOCK_SECONDS)
        async with second.running():
            await _fill(own_valkey)
            process.kill()
            await process.wait()
            await _edit(mongodb)
            async with asyncio.timeout(15):
                await second.until(lambda one: one.events == 1)
            assert await _cached(own_valkey) == {OTHER}
            assert second.full_invalidations == 0


async def test_a_worker_that_stalled_past_its_time_does_no_harm(own_valkey: Server, mongodb: Server) -> None:
    """It finds that it is no longer the one, and the token of the other stands."""
    async with _watching(own_valkey, mongodb) as stalled:
        async with _raw(own_valkey) as raw:
            await raw.set(keys.watch_lock(DATABASE), "somebody else:7", px=60_000)
            await raw.hset(keys.watch_state(DATABASE), "token", b"theirs")
        await _until(stalled, lambda one: not one.watching)
        assert await _token(own_valkey) == b"theirs"
        async with _raw(own_valkey) as raw:
            assert await raw.get(keys.watch_lock(DATABASE)) == b"somebody else:7"


async def test_an_edit_while_redis_is_frozen_is_out_of_it_when_it_wakes(
    own_valkey: Server, mongodb: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with _watching(own_valkey, mongodb) as one:
        await _fill(own_valkey)
        own_valkey.send_signal(signal.SIGSTOP)
        await _edit(mongodb)
        await _until(one, lambda watcher: not watcher.watching)
        assert one.events == 0
        own_valkey.send_signal(signal.SIGCONT)
        await _until(one, lambda watcher: watcher.events == 1)
        assert await _cached(own_valkey) == {OTHER}
        assert one.full_invalidations == 1, "the one at the start"
    assert _said(caplog, "Redis cannot follow") == 1
    assert _said(caplog, "watching MongoDB for changes") == 2


async def test_it_does_not_claim_to_watch_while_redis_is_away(own_valkey: Server, mongodb: Server) -> None:
    """Nor does it wait for an edit to find out."""
    async with _watching(own_valkey, mongodb) as one:
        own_valkey.send_signal(signal.SIGSTOP)
        await _until(one, lambda watcher: not watcher.watching)
        own_valkey.send_signal(signal.SIGCONT)
        await _until(one, lambda watcher: watcher.watching)


async def test_a_redis_that_lost_everything_is_invalidated_once(
    own_valkey: Server, mongodb: Server, tmp_path: Path
) -> None:
    """What was filled since it is back may be older than an edit that is in no token any more."""
    async with _watching(own_valkey, mongodb) as one:
        another = await _restarted(own_valkey, tmp_path)
        async with running(asyncio.sleep(0, another)):
            await _fill(another)
            await _until(one, lambda watcher: watcher.full_invalidations == 2)
            assert await _cached(another) == set()
            await _until(one, lambda watcher: watcher.watching)
            await _fill(another)
            await _edit(mongodb)
            await _until(one, lambda watcher: watcher.events == 1)
            assert await _cached(another) == {OTHER}


async def test_a_redis_that_comes_back_from_a_snapshot_forgets_what_it_had_forgotten(
    own_valkey: Server, mongodb: Server, tmp_path: Path
) -> None:
    """With the values of then comes the token of then, and from there on everything is told again."""
    async with _watching(own_valkey, mongodb) as one:
        await _fill(own_valkey)
        async with _raw(own_valkey) as raw:
            await raw.save()
        await _edit(mongodb)
        await _until(one, lambda watcher: watcher.events == 1)
        another = await _restarted(own_valkey, tmp_path)
        async with running(asyncio.sleep(0, another)):
            await _until(one, lambda watcher: watcher.events == 2)
            assert await _cached(another) == {OTHER}
            assert one.full_invalidations == 1, "the one at the start"


async def test_a_redis_that_is_emptied_is_noticed(own_valkey: Server, mongodb: Server) -> None:
    async with _watching(own_valkey, mongodb) as one:
        async with _raw(own_valkey) as raw:
            await raw.flushall()
        await _fill(own_valkey)
        await _until(one, lambda watcher: watcher.full_invalidations == 2)
        assert await _cached(own_valkey) == set()


async def test_the_token_stays_until_the_delete_is_done(
    own_valkey: Server, mongodb: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _watching(own_valkey, mongodb) as one:
        await _fill(own_valkey)
        asked: list[bytes | None] = []

        async def failing(*_: str) -> bool:
            asked.append(await _token(own_valkey))
            return False

        monkeypatch.setattr(Invalidator, "workflow", failing)
        await _edit(mongodb)
        await _eventually(lambda: len(asked) >= 3)
        assert len(set(asked)) == 1
        assert one.events == 0
        monkeypatch.undo()
        await _until(one, lambda watcher: watcher.events == 1)
        assert await _cached(own_valkey) == {OTHER}


@pytest.mark.parametrize("token", [None, b"", b"no token", bson.encode({}), bson.encode({"_data": "a"})])
async def test_a_lost_token_invalidates_everything_once_and_says_so(
    own_valkey: Server, mongodb: Server, caplog: pytest.LogCaptureFixture, token: bytes | None
) -> None:
    """Whether it is gone, or is there and no token."""
    async with _watching(own_valkey, mongodb):
        pass
    await _edit(mongodb)
    await _fill(own_valkey)
    caplog.clear()
    async with _raw(own_valkey) as raw:
        await raw.delete(keys.watch_state(DATABASE))
        if token is not None:
            await raw.hset(keys.watch_state(DATABASE), "token", token)
    async with _watching(own_valkey, mongodb) as one:
        assert one.full_invalidations == 1
        assert await _cached(own_valkey) == set()
        await _fill(own_valkey)
        await _edit(mongodb)
        await _until(one, lambda watcher: watcher.events == 1)
        assert await _cached(own_valkey) == {OTHER}
    async with _watching(own_valkey, mongodb) as one:
        assert one.full_invalidations == 0
    assert _said(caplog, "everything cached is invalidated once") == 1


async def test_a_token_that_mongodb_has_no_history_for_any_more(
    own_valkey: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody watched for longer than its history goes back."""
    async with running(start_mongodb(tmp_path / "mongodb", options=("--oplog-max-entries", "10"))) as mongodb:
        async with _watching(own_valkey, mongodb):
            pass
        token = await _token(own_valkey)
        await _edit(mongodb)
        await _write_history(mongodb)
        await _fill(own_valkey)
        caplog.clear()
        async with _watching(own_valkey, mongodb) as one:
            assert one.full_invalidations == 1
            assert await _cached(own_valkey) == set()
            assert await _token(own_valkey) != token
    assert _said(caplog, "cannot be watched (OperationFailure, code 286)") == 1
    assert _said(caplog, "everything cached is invalidated once") == 1


class Failing:
    """The batches of a stream, until they fail: with an answer of the server's, the first so many times."""

    def __init__(self, code: int, *, times: int, after: int) -> None:
        self.times = times
        self._code = code
        self._after = after
        self._batches = change_stream.batches

    async def __call__(self, stream: Any) -> AsyncIterator[Any]:
        """Bring so many batches, then fail."""
        async with contextlib.aclosing(self._batches(stream)) as arriving:
            for _ in range(self._after if self.times else sys.maxsize):
                yield await anext(arriving)
        self.times -= 1
        raise OperationFailure("says what it read", self._code)


async def test_an_event_that_cannot_be_read_is_passed_by_with_everything_invalidated(
    own_valkey: Server, mongodb: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer again, from a token that is good enough to open the stream with: an event beyond 16 MiB, say."""
    failing = Failing(10334, times=2, after=0)
    async with _watching(own_valkey, mongodb):
        pass
    monkeypatch.setattr(change_stream, "batches", failing)
    await _fill(own_valkey)
    async with _watching(own_valkey, mongodb) as one:
        await _until(one, lambda watcher: watcher.full_invalidations == 1)
        assert await _cached(own_valkey) == set()
        await _until(one, lambda watcher: watcher.watching and not failing.times)
        await _fill(own_valkey)
        await _edit(mongodb)
        await _until(one, lambda watcher: watcher.events == 1)
        assert await _cached(own_valkey) == {OTHER}


async def test_a_stream_that_ends_in_between_goes_on_from_the_token(
    own_valkey: Server, mongodb: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody killed its cursor: no reason to invalidate everything."""
    failing = Failing(237, times=3, after=1)
    async with _watching(own_valkey, mongodb):
        pass
    monkeypatch.setattr(change_stream, "batches", failing)
    await _fill(own_valkey)
    async with _watching(own_valkey, mongodb) as one:
        await _eventually(lambda: not failing.times)
        await _edit(mongodb)
        await _until(one, lambda watcher: watcher.events == 1)
        assert one.full_invalidations == 0
        assert await _cached(own_valkey) == {OTHER}


async def test_mongodb_away_is_said_once_and_watching_goes_on_from_the_token(
    own_valkey: Server, own_mongodb: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with _watching(own_valkey, own_mongodb) as one:
        await _fill(own_valkey)
        terms = one._lock.term
        await own_mongodb.stop()
        await _until(one, lambda watcher: not watcher.watching)
        await _eventually(lambda: one._lock.term >= terms + 3)
        async with running(start_mongodb(tmp_path / "mongodb", port=own_mongodb.port)) as again:
            await _edit(again)
            await _until(one, lambda watcher: watcher.events >= 1)
            assert await _cached(own_valkey) == {OTHER}
            assert one.full_invalidations == 1, "the one at the start"
            assert _said(caplog, "MongoDB cannot be watched") == 1
            assert _said(caplog, "watching MongoDB for changes") == 2


async def test_a_frozen_mongodb_is_noticed_and_watching_goes_on_when_it_wakes(
    own_valkey: Server, own_mongodb: Server
) -> None:
    """Its connections stand, and nothing comes; the lock is let go for a worker that may see more."""
    async with _watching(own_valkey, own_mongodb) as one:
        await _fill(own_valkey)
        own_mongodb.send_signal(signal.SIGSTOP)
        await _until(one, lambda watcher: not watcher.watching)
        own_mongodb.send_signal(signal.SIGCONT)
        await _edit(own_mongodb)
        await _until(one, lambda watcher: watcher.events == 1)
        assert await _cached(own_valkey) == {OTHER}


async def test_mongodb_that_comes_later_is_found(own_valkey: Server, tmp_path: Path) -> None:
    port = free_port()
    nowhere = Server("mongodb", "127.0.0.1", port, process=None, log_path=tmp_path)  # type: ignore[arg-type]
    async with _redis(own_valkey) as redis, _watcher(redis, nowhere).running() as one:
        await _eventually(lambda: one._lock.term >= 2)
        async with running(start_mongodb(tmp_path / "mongodb", port=port)) as mongodb:
            await _until(one, lambda watcher: watcher.watching)
            await _fill(own_valkey)
            await _edit(mongodb)
            await _until(one, lambda watcher: watcher.events == 1)
            assert await _cached(own_valkey) == {OTHER}


async def test_a_worker_that_cannot_reach_mongodb_leaves_it_to_one_that_can(
    own_valkey: Server, mongodb: Server, tmp_path: Path
) -> None:
    nowhere = Server("mongodb", "127.0.0.1", free_port(), process=None, log_path=tmp_path)  # type: ignore[arg-type]
    async with (
        _redis(own_valkey) as first,
        _redis(own_valkey) as second,
        _watcher(first, nowhere).running() as cut_off,
    ):
        await _eventually(lambda: cut_off._lock.term >= 1)
        async with _watcher(second, mongodb).running() as one:
            await _until(one, lambda watcher: watcher.watching)


async def test_without_change_streams_it_is_said_once_and_left_alone(
    own_valkey: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TTLs alone, then. A server may be made a replica set some day, so it is asked again, rarely."""
    pauses: list[float] = []
    serve = Watcher._serve

    async def recorded(one: Watcher) -> float:
        pauses.append(await serve(one))
        return 0

    monkeypatch.setattr(Watcher, "_serve", recorded)
    async with running(start_mongodb(tmp_path / "mongodb", options=("--standalone",))) as mongodb:
        await _fill(own_valkey)
        async with _redis(own_valkey) as redis, _watcher(redis, mongodb).running() as one:
            await _eventually(lambda: len(pauses) >= 3)
            assert not one.watching
    assert set(pauses) == {watcher.UNSUPPORTED_PAUSE_SECONDS}
    assert await _cached(own_valkey) == {WORKFLOW, OTHER}
    assert _said(caplog, "has no change streams (OperationFailure, code 40573") == 1
    assert len([record for record in caplog.records if record.name == "cache.watcher"]) == 1


async def test_pauses_grow_while_it_fails_and_are_short_again_after(own_valkey: Server, mongodb: Server) -> None:
    async with _redis(own_valkey) as redis, _watcher(redis, mongodb).running() as one:
        await _until(one, lambda watcher: watcher.watching)
        pauses = [one._failed(RuntimeError()) for _ in range(12)]
        assert pauses[0] <= watcher.FIRST_PAUSE_SECONDS
        assert watcher.LONGEST_PAUSE_SECONDS / 2 <= pauses[-1] <= watcher.LONGEST_PAUSE_SECONDS
        await _edit(mongodb)
        await _until(one, lambda watcher: watcher.events == 1)
        assert one._failed(RuntimeError()) <= watcher.FIRST_PAUSE_SECONDS


async def test_without_redis_it_waits(mongodb: Server, tmp_path: Path) -> None:
    """Nothing is asked of MongoDB: there is nothing to invalidate."""
    port = free_port()
    redis = RedisCache(f"redis://127.0.0.1:{port}/0", first_cooldown=0.05, longest_cooldown=0.2)
    async with _watcher(redis, mongodb).running() as one:
        await _eventually(lambda: redis.breaker.attempts >= 4)
        assert redis.breaker.bypassed == 0, "it looks whether Redis is there, and does not ask"
        assert not one.watching
        async with running(start_valkey(tmp_path / "valkey", port=port)):
            await _until(one, lambda watcher: watcher.watching)
    await redis.aclose()


async def test_an_error_that_nobody_foresaw_ends_nothing_and_its_words_are_not_logged(
    own_valkey: Server, mongodb: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with _watching(own_valkey, mongodb) as one:
        await _fill(own_valkey)

        def failing(_: Any) -> None:
            raise KeyError("xoxb-planted")

        monkeypatch.setattr(watcher, "outdated_by", failing)
        await _edit(mongodb)
        await _until(one, lambda watcher: not watcher.watching)
        monkeypatch.undo()
        await _until(one, lambda watcher: watcher.events == 1)
        assert await _cached(own_valkey) == {OTHER}
    assert _said(caplog, "(KeyError)") == 1
    assert "xoxb-planted" not in caplog.text


@pytest.mark.parametrize("frozen", [None, "own_valkey", "own_mongodb"])
async def test_cancelled_it_ends_and_leaves_nothing_behind(
    own_valkey: Server,
    own_mongodb: Server,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    frozen: str | None,
) -> None:
    """However much of it answers; the lock is let go if Redis does."""
    monkeypatch.undo()  # patience: the driver forgets a socket if it is closed in the midst of connecting anew
    async with _redis(own_valkey) as redis:
        one = _watcher(redis, own_mongodb, lock_seconds=60)
        task = asyncio.create_task(one.run())
        await _until(one, lambda watcher: watcher.watching)
        if frozen:
            request.getfixturevalue(frozen).send_signal(signal.SIGSTOP)
        task.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not one.watching
        if frozen:
            request.getfixturevalue(frozen).send_signal(signal.SIGCONT)
        await _eventually(lambda: not change_stream._leaving)
        async with _raw(own_valkey) as raw:
            assert bool(await raw.exists(keys.watch_lock(DATABASE))) == (frozen == "own_valkey")
