"""A server as a child process: started on a free loopback port, waited for, stopped by its own handle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.embedded import launch

LOOPBACK = "127.0.0.1"
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 10.0
START_ATTEMPTS = 3
"""A port that was free may be taken by the time a server binds it; another one is tried then."""

SHOWN_LINES = 5
"""Of a server's log, when it fails."""

LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""

INHERITED_VARIABLES = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ")
"""All that a child gets of this process's environment: settings meant for other servers stay out of these."""


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
        """End it, gently first; a frozen one is woken to hear of it. Cancelled while waiting, it kills."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
                self.process.send_signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                await self.process.wait()
        except TimeoutError:
            await self.kill()
        except asyncio.CancelledError:
            await self.kill()
            raise

    async def kill(self) -> None:
        """End it at once. The signal is out before the first await, so that no cancellation comes between."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


async def start(
    name: str,
    command: Callable[[int], list[str]],
    folder: Path,
    *,
    port: int | None = None,
    environment: Callable[[int], Mapping[str, str]] | None = None,
    ready: Callable[[Server], Awaitable[bool]] | None = None,
) -> Server:
    """Start a server and wait until it is ready.

    Args:
        name: What it is; its log is `<folder>/<name>.log`.
        command: The command line for a port.
        folder: Its working folder.
        port: Where to listen; a free port where None is given.
        environment: Variables beside the inherited ones, for a port.
        ready: Whether it is ready by now; where None is given, it is once it accepts connections.

    Raises:
        EmbeddedServerError: It ended or was not ready in time.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    for attempt in range(1, START_ATTEMPTS + 1):
        server = await _spawn(name, command, folder, port or free_port(), environment)
        try:
            # Not wait_for: Python 3.11's may lose a cancellation.
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                await _until(ready or listening, server)
        except (TimeoutError, EmbeddedServerError) as error:
            await server.kill()
            if attempt == START_ATTEMPTS or port is not None:
                raise EmbeddedServerError(
                    f"{name} did not start; its log ends:\n{last_lines(server.log_path)}"
                ) from error
        except BaseException:  # cancelled: leave no process behind
            await server.kill()
            raise
        else:
            return server
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _spawn(
    name: str,
    command: Callable[[int], list[str]],
    folder: Path,
    port: int,
    environment: Callable[[int], Mapping[str, str]] | None,
) -> Server:
    log_path = folder / f"{name}.log"
    inherited = {key: os.environ[key] for key in INHERITED_VARIABLES if key in os.environ}
    own = environment(port) if environment is not None else {}
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *_tied_to_this_process(command(port)),
            cwd=folder,
            env={**inherited, **own},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A terminal's Ctrl-C goes to the whole group; the stack itself decides in which order its servers stop.
            start_new_session=True,
        )
    return Server(name=name, host=LOOPBACK, port=port, process=process, log_path=log_path)


def _tied_to_this_process(command: list[str]) -> list[str]:
    """The command as it does not outlive this process, not even a killed one, where the system can promise that."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *command]


async def _until(ready: Callable[[Server], Awaitable[bool]], server: Server) -> None:
    """Return once the server is ready; raise as soon as its process has ended."""
    while True:
        is_ready = await ready(server)
        if not server.running:
            raise EmbeddedServerError(f"{server.name} ended with exit code {server.process.returncode}")
        if is_ready:
            return
        await asyncio.sleep(0.02)  # nothing announces a listening socket; asking is all there is


async def listening(server: Server) -> bool:
    """Whether the server, and not somebody who was quicker, accepts connections on its port."""
    try:
        _, writer = await asyncio.open_connection(server.host, server.port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return not await asyncio.to_thread(_belongs_to_another, server)


def _belongs_to_another(server: Server) -> bool:
    """Whether the port is known to be another process's. Only Linux tells; elsewhere the answer is no."""
    try:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    except OSError:
        return False
    address = f"0100007F:{server.port:04X}"
    listeners = {f"socket:[{row[9]}]" for row in rows if row[1] == address and row[3] == LISTENING}
    return bool(listeners) and listeners.isdisjoint(_open_files(server.process.pid))


def _open_files(pid: int) -> set[str]:
    """What a process's file descriptors point at; nothing if it has ended."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                found.add(str(entry.readlink()))
    return found


def last_lines(log_path: Path) -> str:
    """The last that a server printed."""
    lines = log_path.read_text(errors="replace").strip().splitlines()
    return "\n".join(lines[-SHOWN_LINES:]) or "it printed nothing"


@contextlib.asynccontextmanager
async def running(starting: Awaitable[Server]) -> AsyncIterator[Server]:
    """A server for the length of a `with` block."""
    server = await starting
    try:
        yield server
    finally:
        await server.stop()


def process_is_alive(pid: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
