"""Looking into the cache: `datanadhi-worker cache stats` and `cache get`, which never print a secret."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import typer

from cache import keys
from cache.breaker import FIRST_COOLDOWN_SECONDS, LONGEST_COOLDOWN_SECONDS, State
from cache.guard import READS
from cache.keys import PREFIX, Family, InvalidIdentifierError
from cache.topologies import open_redis
from workers.command_settings import WRONG_USAGE
from workers.masking import masked
from workers.settings import Settings

DONE = 0
REDIS_AWAY = 1

SCAN_COUNT = 1000
LONGEST_SCAN_SECONDS = 10.0
TTLS_PER_FAMILY = 100
"""Of so many keys of a family the TTL is asked; SCAN finds them in no particular order."""

NEVER = -1  # what Redis answers for the TTL of a key that has none

SHOWN_OF_API_KEY = 6
LEASE = "(lease)"
OTHER = "(other)"

Execute = Callable[..., Coroutine[Any, Any, Any]]
"""Runs a command, given as its words."""

_ANY = "@"
PATTERNS = {
    family: re.compile(re.escape(key).replace(_ANY, "([^:]+)"))
    for family, key in {
        Family.API_KEY: keys.api_key(_ANY),
        Family.ORGANISATION: keys.organisation(_ANY),
        Family.PROJECT: keys.project(_ANY, _ANY),
        Family.PIPELINE_BY_CODE: keys.pipeline_by_code(_ANY, _ANY, _ANY),
        Family.PIPELINE: keys.pipeline(_ANY, _ANY, _ANY),
        Family.WORKFLOW: keys.workflow(_ANY, _ANY, _ANY),
        Family.DECRYPTED_CONNECTOR: keys.decrypted_connector(_ANY, _ANY, _ANY),
        Family.CONNECTOR: keys.connector(_ANY, _ANY, _ANY),
        Family.TARGET: keys.target(_ANY, _ANY, _ANY, _ANY),
        Family.ORGANISATION_SECRET: keys.organisation_secret(_ANY),
        Family.PROJECT_SECRET: keys.project_secret(_ANY, _ANY),
    }.items()
}
"""What the keys of each family look like, as `cache/keys.py` makes them."""


class RedisAwayError(Exception):
    """Redis did not answer, or refused; the message says which."""


class Inspector:
    """Asks Redis what the cache's own client has no use for, guarded as that one is."""

    def __init__(self, settings: Settings) -> None:
        self._guard, self._redis = open_redis(
            settings.redis_url.get_secret_value(),
            timeout=settings.cache_timeout_ms / 1000,
            client_name="datanadhi-worker-cache-command",
            first_cooldown=FIRST_COOLDOWN_SECONDS,
            longest_cooldown=LONGEST_COOLDOWN_SECONDS,
        )

    @property
    def address(self) -> str:
        """Where Redis is, without credentials."""
        return self._redis.address

    @property
    def state(self) -> State:
        """The breaker's, after what was asked so far."""
        return self._guard.breaker.state

    async def aclose(self) -> None:
        """Close all connections."""
        await self._guard.close()

    @property
    def primaries(self) -> Sequence[Execute]:
        """What executes a command at each server that has keys; known once something was asked."""
        return self._redis.primaries()

    async def ask(self, *command: str | int, at: Execute | None = None) -> Any:
        """The reply to a command, from the server that has its key, or from the one given.

        Raises:
            RedisAwayError: There is none.
        """
        reply = await self._guard.attempt(READS, self._reply, at or self._redis.execute, *command)
        if reply is None:
            why = "refuses" if self._guard.counters.refused else "could not be reached for"
            raise RedisAwayError(f"Redis at {self.address} {why} {command[0]}")
        return reply[0]

    @staticmethod
    async def _reply(execute: Execute, *command: str | int) -> tuple[Any]:
        """In a tuple: nothing is a reply, too."""
        return (await execute(*command),)


@dataclass(slots=True)
class Census:
    """The keys that were found, by family.

    Attributes:
        counts: How many of each.
        samples: Some of each family.
        complete: Whether all keys were looked at.
    """

    counts: Counter[str] = field(default_factory=Counter)
    samples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    complete: bool = True

    def add(self, key: str) -> None:
        """Count a key."""
        family = family_of(key)
        if family is None:
            self.counts[LEASE if key.startswith("{") else OTHER] += 1
            return
        self.counts[family.label] += 1
        if len(self.samples[family.label]) < TTLS_PER_FAMILY:
            self.samples[family.label].append(key)


def family_of(key: str) -> Family | None:
    """The family whose key it could be; None if it is none of the cache's."""
    return next((family for family, pattern in PATTERNS.items() if pattern.fullmatch(key)), None)


async def show_stats(settings: Settings) -> int:
    """Print what Redis says about itself and what it holds of the cache; the exit code."""
    async with _inspector(settings) as inspector:
        try:
            await _show_server(inspector)
            census = await _take_census(inspector)
            await _show_census(inspector, census)
        except RedisAwayError as error:
            typer.echo(f"{error}; breaker: {inspector.state}")
            return REDIS_AWAY
    return DONE


async def show_value(settings: Settings, key: str) -> int:
    """Print a cached document and its TTL, secrets masked; the exit code."""
    name = key if key.startswith(PREFIX) else f"{PREFIX}{key}"
    try:
        family = _checked(name)
    except InvalidIdentifierError as error:
        typer.echo(str(error), err=True)
        return WRONG_USAGE
    async with _inspector(settings) as inspector:
        try:
            content, ttl = await inspector.ask("GET", name), await inspector.ask("TTL", name)
        except RedisAwayError as error:
            typer.echo(str(error), err=True)
            return REDIS_AWAY
    typer.echo(f"{_shown(family, name)} ({family.label})")
    if content is None:
        typer.echo("is not in Redis")
        return DONE
    typer.echo("never expires" if ttl == NEVER else f"expires in {ttl} s")
    # In ASCII: what is stored must not steer a terminal.
    typer.echo(json.dumps(masked(family, content), indent=2, ensure_ascii=True))
    return DONE


@asynccontextmanager
async def _inspector(settings: Settings) -> AsyncIterator[Inspector]:
    try:
        inspector = Inspector(settings)
    except ValueError as error:  # of `open_redis`; it does not show the address
        typer.echo(f"REDIS_URL: {error}", err=True)
        raise typer.Exit(WRONG_USAGE) from None
    try:
        yield inspector
    finally:
        await inspector.aclose()


def _checked(key: str) -> Family:
    """The family of a key, each of whose identifiers is fit to be in one."""
    for family, pattern in PATTERNS.items():
        found = pattern.fullmatch(key)
        if found is not None:
            check = keys.api_key if family is Family.API_KEY else keys.identifier
            for part in found.groups():
                check(part)
            return family
    # It is not shown: it may be an API key, mistyped.
    raise InvalidIdentifierError("this is no key of the cache; docs/cache.md lists them")


def _shown(family: Family, key: str) -> str:
    if family is not Family.API_KEY:
        return key
    beginning = keys.api_key(_ANY).removesuffix(_ANY)
    return f"{key[: len(beginning) + SHOWN_OF_API_KEY]}..."


async def _show_server(inspector: Inspector) -> None:
    await inspector.ask("PING")  # connects
    begun = time.perf_counter()
    await inspector.ask("PING")
    milliseconds = (time.perf_counter() - begun) * 1000
    typer.echo(f"Redis at {inspector.address}: reachable, a PING takes {milliseconds:.1f} ms")
    for primary in inspector.primaries:
        memory = _fields(await inspector.ask("INFO", "memory", at=primary))
        most = memory["maxmemory_human"] if memory.get("maxmemory") not in {"0", None} else "no limit"
        typer.echo(f"memory: {memory.get('used_memory_human')} used, {most}, {memory.get('maxmemory_policy')}")
    typer.echo(f"breaker: {inspector.state} (of this command; workers log changes of their own)")


def _fields(info: Any) -> dict[str, str]:
    """What INFO answered: one server's reply comes decoded, a cluster node's as its text."""
    if isinstance(info, dict):
        return {name: str(value) for name, value in info.items()}
    lines = (line.partition(":") for line in info.decode().splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


async def _take_census(inspector: Inspector) -> Census:
    census, give_up_at = Census(), time.monotonic() + LONGEST_SCAN_SECONDS
    for primary in inspector.primaries:
        for pattern in (f"{PREFIX}*", f"{keys.leases_under(PREFIX.removesuffix(':'))}*"):
            await _scan(inspector, primary, pattern, census, give_up_at)
    return census


async def _scan(inspector: Inspector, primary: Execute, pattern: str, census: Census, give_up_at: float) -> None:
    cursor = 0
    while census.complete:
        reply = await inspector.ask("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT, at=primary)
        cursor = int(reply[0])
        for key in reply[1]:
            census.add(key.decode(errors="replace"))
        if cursor == 0:
            return
        census.complete = time.monotonic() <= give_up_at


async def _show_census(inspector: Inspector, census: Census) -> None:
    typer.echo(f"keys: {census.counts.total()}{'' if census.complete else ' so far; there are more'}")
    typer.echo(f"{'family':20} {'keys':>8} {'TTL s: least':>13} {'median':>8} {'most':>8} {'endless':>8}")
    for label in [*(family.label for family in PATTERNS), LEASE, OTHER]:
        ttls = await _ttls(inspector, census.samples[label])
        typer.echo(f"{label:20} {census.counts[label]:>8} {_summary(ttls)}".rstrip())


async def _ttls(inspector: Inspector, names: list[str]) -> list[int]:
    """Their TTLs; those that expired meanwhile have none to tell."""
    ttls = await asyncio.gather(*(inspector.ask("TTL", name) for name in names))
    return [ttl for ttl in ttls if ttl >= NEVER]


def _summary(ttls: list[int]) -> str:
    ending = [ttl for ttl in ttls if ttl != NEVER]
    if not ttls:
        return ""
    least, median, most = (min(ending), int(statistics.median(ending)), max(ending)) if ending else ("-", "-", "-")
    return f"{least:>13} {median:>8} {most:>8} {len(ttls) - len(ending):>8}"
