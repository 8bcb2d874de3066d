"""A program of a test's own in another process."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import textwrap
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def python_process(program: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that runs `program`, killed at the end if it still does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(program), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
