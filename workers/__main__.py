"""`python -m workers`: the same command line as `datanadhi-worker`."""

from workers.cli import app

app()
