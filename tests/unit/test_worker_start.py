"""How a worker starts: waiting for Temporal aloud, heeding signals from the first moment, warning of open secrets."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from temporalio.runtime import Runtime

from workers.clients import warn_of_open_credentials
from workers.connecting import REMINDER_SECONDS, Unreached, connect
from workers.embedded.servers import free_port
from workers.settings import Settings
from workers.stopping import STOP_SIGNALS, StopSignals

PLANTED = "hush-0451"


def failed(attempt: int, text: str = "connection refused") -> SimpleNamespace:
    """What tenacity tells of a failed attempt."""
    return SimpleNamespace(
        attempt_number=attempt, outcome=SimpleNamespace(exception=lambda: RuntimeError(f"Failed: {text}"))
    )


def test_that_temporal_is_away_is_said_with_its_reason_and_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    unreached = Unreached({"target_host": "temporal:7233"}, clock=lambda: now)
    for attempt in range(1, 50):
        unreached(failed(attempt))
    assert len(caplog.messages) == 1
    assert "temporal:7233" in caplog.messages[0]
    assert "connection refused" in caplog.messages[0]
    now += REMINDER_SECONDS
    unreached(failed(50, "no such host"))
    unreached(failed(51))
    assert len(caplog.messages) == 2
    assert "no such host" in caplog.messages[1]


def test_why_temporal_is_away_is_said_without_what_it_was_told(caplog: pytest.LogCaptureFixture) -> None:
    config = {
        "target_host": "temporal:7233",
        "api_key": PLANTED,
        "rpc_metadata": {"authorization": f"Bearer {PLANTED}"},
    }
    Unreached(config)(failed(1, f"invalid header Bearer {PLANTED}"))
    assert "invalid header" in caplog.text
    assert PLANTED not in caplog.text


async def test_waiting_for_temporal_ends_when_the_worker_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = asyncio.Event()

    monkeypatch.setattr(Unreached, "__call__", lambda *_: stop.set())
    assert await connect({"target_host": f"127.0.0.1:{free_port()}"}, Runtime.default(), stop) is None


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_noted_before_anybody_can_heed_it(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    calls = []
    with StopSignals().noted() as signals:
        os.kill(os.getpid(), number)
        assert signals.told
        with signals.calling(lambda: calls.append("at once")):
            assert calls == ["at once"]
    assert signal.getsignal(number) is before


def test_a_signal_calls_whoever_heeds_it_and_nobody_after() -> None:
    calls = []
    with StopSignals().noted() as signals:
        with signals.calling(lambda: calls.append("then")):
            assert not calls
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert calls == ["then"]


@pytest.mark.parametrize(
    "redis_url",
    [
        "redis://redis.example:6379/0",
        "redis://:hunter2@10.0.0.7:6379/0",
        "redis://localhost.example.com",
        "redis+cluster://127.0.0.1:7000,10.0.0.7:7000",
        "redis+sentinel://user:hunter2@sentinel-1:26379,sentinel-2:26379/main/0",
        "redis+sentinel://127.0.0.1:26379/main/0",
    ],
)
def test_credentials_that_would_lie_open_are_warned_of(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_open_credentials(Settings.model_construct(redis_url=SecretStr(redis_url), cache_secret_key=SecretStr("")))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "CACHE_SECRET_KEY" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("redis_url", "key"),
    [
        ("redis://redis.example:6379/0", PLANTED),
        ("rediss://redis.example:6379/0", ""),
        ("rediss+cluster://a:7000,b:7000", ""),
        ("unix:///run/redis.sock", ""),
        ("redis://", ""),
        ("redis://localhost", ""),
        ("redis://user:p@127.0.0.1:6379/0", ""),
        ("redis://[::1]:6379/0", ""),
        ("redis+cluster://127.0.0.1:7000,127.0.0.2:7000", ""),
    ],
)
def test_credentials_that_are_sealed_or_stay_on_this_machine_are_not(
    redis_url: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_open_credentials(Settings.model_construct(redis_url=SecretStr(redis_url), cache_secret_key=SecretStr(key)))
    assert not caplog.records
