"""The settings of the environment for a command: what is wrong with them is said plainly, and ends it."""

from __future__ import annotations

import typer
from pydantic import ValidationError

from workers.settings import Settings

WRONG_USAGE = 2


def read_settings() -> Settings:
    """The settings of the environment and of a .env file; ends the command where they are unusable."""
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            typer.echo(f"{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg']}", err=True)
        raise typer.Exit(WRONG_USAGE) from None
