"""Embedded servers start on ports of their own, and end with whoever started them, however that goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pymongo import AsyncMongoClient
from redis.asyncio import Redis
from temporalio.client import Client

from workers.embedded import processes
from workers.embedded.processes import EmbeddedServerError, Server, start
from workers.embedded.servers import free_port, running, start_mongodb, start_temporal, start_valkey, temporal_ui_port

SLEEP = "import time; time.sleep(600)"


def _python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *arguments]


LISTEN = """
    import socket, sys, time
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    time.sleep(600)
"""
IGNORE_SIGTERM = "\n    import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + LISTEN


def _listener(port: int) -> list[str]:
    return _python(LISTEN, str(port))


def _below(folder: Path) -> list[psutil.Process]:
    """The processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that no process works in after the test."""
    yield tmp_path
    left = _below(tmp_path)
    for process in left:
        process.kill()
    assert not left


async def test_the_three_servers_speak_their_protocols(folder: Path) -> None:
    async with (
        running(start_valkey(folder / "valkey")) as valkey,
        running(start_mongodb(folder / "mongodb")) as mongodb,
        running(start_temporal(folder / "temporal", ui=True)) as temporal,
    ):
        async with Redis(host=valkey.host, port=valkey.port) as redis:
            assert await redis.set("key", "value")
        url = f"mongodb://{mongodb.address}/?directConnection=true"
        async with AsyncMongoClient[dict[str, object]](url) as client:
            await client["db"]["things"].insert_one({"name": "one"})
            assert await client["db"]["things"].count_documents({}) == 1
        temporal_client = await Client.connect(temporal.address)
        assert await temporal_client.service_client.check_health()
        reader, writer = await asyncio.open_connection("127.0.0.1", temporal_ui_port(temporal.port))
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"200"
        writer.close()


async def test_a_server_that_ends_at_once_is_reported_with_what_it_printed_last(folder: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="it is broken"):
        await start("broken", lambda _: _python("raise SystemExit('it is broken')"), folder)


async def test_a_server_that_never_listens_is_stopped_and_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "START_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(EmbeddedServerError, match="it printed nothing"):
        await start("mute", lambda _: _python(SLEEP), folder)


async def test_a_start_that_is_cancelled_leaves_no_process(folder: Path) -> None:
    starting = asyncio.create_task(start("mute", lambda _: _python(SLEEP), folder))
    while not _below(folder):  # noqa: ASYNC110 - a process appears without telling anybody
        await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not _below(folder)


async def test_a_start_that_is_cancelled_at_any_step_leaves_no_process(folder: Path) -> None:
    """The cancellation comes after so many turns of the event loop, from none to well into the waiting."""
    for turns in range(40):
        starting = asyncio.create_task(start("listener", _listener, folder))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert not _below(folder)


async def test_a_port_that_somebody_else_took_is_not_mistaken_for_the_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger accepts connections there already; the next attempt uses another port."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        ports = iter([taken, free_port()])
        monkeypatch.setattr(processes, "free_port", lambda: next(ports))
        async with running(start("listener", _listener, folder)) as server:
            assert server.port != taken
            assert server.running


async def test_a_server_knows_none_of_this_process_s_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URL", "mongodb://elsewhere")
    dump = "import os; print(sorted(os.environ), flush=True)" + textwrap.dedent(LISTEN)
    async with running(
        start("dump", lambda port: _python(dump, str(port)), folder, environment=lambda port: {"OWN": str(port)})
    ) as server:
        await server.stop()
        printed = server.log_path.read_text()
    assert "MONGO_URL" not in printed
    assert "'OWN'" in printed
    assert "'PATH'" in printed


async def test_the_mongodb_server_does_not_read_the_users_own_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = folder / "home" / ".secantus" / "secantusd.toml"
    configuration.parent.mkdir(parents=True)
    configuration.write_text("this is no TOML")
    monkeypatch.setenv("HOME", str(folder / "home"))
    async with running(start_mongodb(folder / "mongodb")) as server:
        assert server.running


async def _stubborn(folder: Path) -> Server:
    """A server that a gentle stop does not end."""
    return await start("stubborn", lambda port: _python(IGNORE_SIGTERM, str(port)), folder)


async def test_a_server_that_does_not_stop_in_time_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_TIMEOUT_SECONDS", 0.1)
    server = await _stubborn(folder)
    await server.stop()
    assert server.process.returncode == -signal.SIGKILL


async def test_a_stop_that_is_cancelled_kills(folder: Path) -> None:
    server = await _stubborn(folder)
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not server.running


async def test_a_frozen_server_can_be_stopped(folder: Path) -> None:
    server = await start_valkey(folder)
    server.send_signal(signal.SIGSTOP)
    await server.stop()
    assert server.process.returncode == 0


async def test_stopping_and_killing_twice_does_nothing(folder: Path) -> None:
    server = await start_valkey(folder)
    await server.stop()
    await server.stop()
    await server.kill()
    assert not server.running


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel offers it")
def test_a_server_does_not_outlive_a_parent_that_is_killed(folder: Path) -> None:
    code = f"""
        import asyncio, pathlib
        from workers.embedded.servers import start_valkey
        async def main():
            await start_valkey(pathlib.Path({str(folder)!r}))
            print("up", flush=True)
            await asyncio.Event().wait()
        asyncio.run(main())
    """
    parent = subprocess.Popen(_python(code), stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        children = _below(folder)
        assert children
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.communicate()
    deadline = time.monotonic() + 10
    while _below(folder) and time.monotonic() < deadline:
        time.sleep(0.01)  # it is not this process's child: there is nothing to wait on
