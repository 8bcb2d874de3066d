"""The command line: `datanadhi-worker run | cache | demo | dev | version`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from workers import cache_command
from workers.stopping import StopSignals

app = typer.Typer(
    help="Temporal worker that runs log records through pipelines and delivers them.",
    no_args_is_help=True,
    add_completion=False,
    # Local variables may hold settings; a traceback is no place for them.
    pretty_exceptions_show_locals=False,
)
app.add_typer(cache_command.app, name="cache")


@app.command()
def run() -> None:
    """Run a worker with the settings of the environment (and of a .env file), until SIGTERM or SIGINT."""
    with StopSignals().noted() as signals:
        from workers.command_settings import read_settings, settings_used  # noqa: PLC0415 - signals are noted by then
        from workers.logs import configure_logging  # noqa: PLC0415 - as above
        from workers.process import run_worker  # noqa: PLC0415 - as above

        settings = read_settings()
        configure_logging(settings.log_level)
        try:
            with settings_used():
                asyncio.run(run_worker(settings, signals))
        except typer.Exit as ended:
            _end(ended.exit_code)
        _end(0)


@app.command()
def demo(
    file: Annotated[
        Path | None,
        typer.Option(help="Send this file instead of the sample: .jsonl holds a JSON object a line, others text."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=500, help="Records a message; by default each is a message of its own.")
    ] = None,
) -> None:
    """Send records through an embedded stack of real servers and account for every one of them."""
    from workers.demo.command import DemoOptions, run_demo  # noqa: PLC0415 - for this command alone

    raise typer.Exit(asyncio.run(run_demo(DemoOptions(file=file, batch_size=batch_size))))


@app.command()
def dev(*, worker: Annotated[bool, typer.Option(help="Start a worker too, or leave that to you.")] = True) -> None:
    """Start the embedded stack with the sample pipeline and keep it up, printing deliveries as they arrive."""
    from workers.demo.command import DevOptions, run_dev  # noqa: PLC0415 - as above

    raise typer.Exit(asyncio.run(run_dev(DevOptions(worker=worker))))


def _end(exit_code: int) -> NoReturn:
    """End the process here and now, all having been closed.

    A thread of Temporal's core that wants to log may wait for an interpreter that is shutting down, and that one for
    the thread: the process would never end.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(importlib.metadata.version("datanadhi-worker"))
