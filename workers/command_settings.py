"""The settings of the environment for a command: what is wrong with them is said plainly, and ends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:  # importing it takes a while, Temporal's SDK with it: the command line is there before
    from workers.settings import Settings

WRONG_USAGE = 2


def read_settings() -> Settings:
    """The settings of the environment and of a .env file; ends the command where they are unusable."""
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    from workers.settings import Settings  # noqa: PLC0415 - as above

    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            reason = problem["msg"].removeprefix("Value error, ")
            typer.echo(f"{'.'.join(map(str, problem['loc'])).upper()}: {reason}", err=True)
        raise typer.Exit(WRONG_USAGE) from None


@contextmanager
def settings_used() -> Iterator[None]:
    """Where a setting turns out to be of no use, say so in a line, and end the command."""
    from workers.settings import UnusableSettingError  # noqa: PLC0415 - as above

    try:
        yield
    except UnusableSettingError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_USAGE) from None
