"""Redis Cluster and Sentinel: the client does with many servers what it does with one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.crc import key_slot

from cache import keys, leases
from cache.addresses import Node, Topology, parse
from cache.connections import MOST_CONNECTIONS
from cache.invalidation import Invalidator
from cache.leases import Present
from cache.redis_cache import RedisCache, Script
from cache.watch_lock import WatchLock
from tests.redis_topologies import SERVICE, ClusterServers, SentinelServers, client, cluster, node_id, sentinels, until

MANY = [f"key{number}" for number in range(200)]
ACL = ("--user", "default", "off", "--user", "worker", "on", ">p@ss:w/rd", "~*", "&*", "+@all")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterServers]:
    async with cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest_asyncio.fixture
async def raws(servers: ClusterServers) -> AsyncIterator[list[Redis]]:
    """A client of each primary, emptied."""
    clients = [client(server) for server in servers.primaries]
    for raw in clients:
        await raw.flushdb()
    yield clients
    for raw in clients:
        await raw.aclose()


@pytest.fixture
def clustered(servers: ClusterServers, raws: list[Redis]) -> RedisCache:
    """The process's client, which is told of two nodes and finds the third."""
    assert raws
    first, second, _ = servers.primaries
    return RedisCache.configure(f"redis+cluster://{first.address},{second.address}")


def _owner(raws: list[Redis], key: str) -> tuple[Redis, Redis]:
    """The primary that has a key's slot, and another."""
    place = key_slot(key.encode()) * 3 // 16384
    return raws[place], raws[(place + 1) % 3]


async def _hand_over(raws: list[Redis], slot: int, new: Redis) -> None:
    for raw in (new, *(raw for raw in raws if raw is not new)):  # the one that gets it hears of it first
        await raw.execute_command("CLUSTER", "SETSLOT", slot, "NODE", await node_id(new))


async def test_keys_of_all_nodes_are_set_got_and_deleted(clustered: RedisCache, raws: list[Redis]) -> None:
    assert all(await asyncio.gather(*(clustered.safe_set(key, key, 100) for key in MANY)))
    assert all([await raw.dbsize() > 30 for raw in raws])
    assert [await clustered.safe_get(key) for key in MANY] == [key.encode() for key in MANY]
    assert await clustered.delete(*MANY)
    assert [await raw.dbsize() for raw in raws] == [0, 0, 0]
    assert clustered.counters.refused == 0


async def test_many_are_got_in_order_and_the_wrong_type_is_a_miss(clustered: RedisCache, raws: list[Redis]) -> None:
    for key in MANY[::2]:
        await clustered.safe_set(key, key, 100)
    await _owner(raws, "list")[0].lpush("list", "x")
    expected = [None if place % 2 else key.encode() for place, key in enumerate(MANY)]
    assert await clustered.safe_get_many([*MANY, "list"]) == [*expected, None]
    assert clustered.counters.refused == 0


async def test_a_script_runs_where_its_key_is_also_where_it_has_never_been_seen(
    clustered: RedisCache, raws: list[Redis]
) -> None:
    script = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    for raw in raws:
        await raw.script_flush()
    for total in (5, 10):
        assert [await clustered.run(script, (key,), (5,)) for key in MANY[:20]] == [total] * 20
    assert clustered.counters.refused == 0


async def test_a_lease_is_with_its_key_and_goes_with_it(clustered: RedisCache, raws: list[Redis]) -> None:
    for number in range(20):
        key = keys.target("1", "2", "3", str(number))
        lease = await leases.take(clustered, key, Present.ANSWERS)
        assert lease is not None
        assert await leases.fill(clustered, key, lease, b"value", 100)
        late = await leases.take(clustered, key, Present.STAYS)
        assert late is not None
        assert await clustered.delete(key)
        assert await leases.fill(clustered, key, late, b"old", 100) is False
        assert await clustered.safe_get(key) is None
    assert [await raw.dbsize() for raw in raws] == [0, 0, 0]


async def test_a_level_goes_from_every_primary_and_its_neighbours_stay(
    clustered: RedisCache, raws: list[Redis]
) -> None:
    inside = [keys.pipeline("1", "2", str(number)) for number in range(300)]
    outside = [keys.pipeline("10", "2", str(number)) for number in range(30)]
    for key in (*inside, *outside):
        for name in (key, keys.lease(key)):
            await clustered.safe_set(name, "x", 100)
    assert await Invalidator(clustered).organisation("1")
    left = {name.decode() for raw in raws for name in await raw.keys("*")}
    assert left == {*outside, *map(keys.lease, outside)}


async def test_a_level_is_not_said_to_be_gone_if_slots_changed_hands_meanwhile(
    clustered: RedisCache, raws: list[Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, other = _owner(raws, "key0")
    slot, scan = key_slot(b"key0"), clustered._delete_beginning

    async def hand_over_and_scan(*arguments: object) -> bool:
        await _hand_over(raws, slot, other)
        return await scan(*arguments)

    monkeypatch.setattr(clustered, "_delete_beginning", hand_over_and_scan)
    assert await clustered.delete_under("org:1") is False
    await _hand_over(raws, slot, owner)
    monkeypatch.undo()
    await until(lambda: clustered.delete_under("org:1"))  # all nodes have heard of it


async def test_a_slot_that_moved_is_found_within_the_call(clustered: RedisCache, raws: list[Redis]) -> None:
    owner, other = _owner(raws, "moving")
    assert await clustered.safe_set("moving", "value", 100)
    await owner.delete("moving")
    await _hand_over(raws, key_slot(b"moving"), other)
    await other.set("moving", "there")
    try:
        assert await clustered.safe_get("moving") == b"there"
        assert await clustered.safe_get_many(["moving", "key0"]) == [b"there", None]
        assert await clustered.delete("moving")
        assert clustered.breaker.outages == clustered.counters.refused == 0
    finally:
        await other.delete("moving")
        await _hand_over(raws, key_slot(b"moving"), owner)


async def test_a_key_that_has_moved_ahead_of_its_slot_is_found_as_well(
    clustered: RedisCache, raws: list[Redis]
) -> None:
    owner, other = _owner(raws, "asked")
    slot = key_slot(b"asked")
    await other.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", await node_id(owner))
    await owner.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", await node_id(other))
    try:
        assert await clustered.safe_set("asked", "value", 100)
        assert await other.dbsize() == 1
        assert await clustered.safe_get("asked") == b"value"
        assert await clustered.safe_get_many(["asked"]) == [b"value"]
        assert await clustered.run(Script("return redis.call('GET', KEYS[1])"), ("asked",), ()) == b"value"
        assert await clustered.delete("asked")
        assert await other.dbsize() == 0
        assert clustered.breaker.outages == clustered.counters.refused == 0
    finally:
        await other.flushdb()
        for raw in raws:
            await raw.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")


async def test_however_many_callers_the_connections_to_each_node_are_bounded(
    servers: ClusterServers, raws: list[Redis]
) -> None:
    redis = RedisCache.configure(f"redis+cluster://{servers.addresses}", timeout=10.0)
    assert await redis.safe_set("key0", "value", 100)
    answers = await asyncio.gather(*(redis.safe_get(key) for key in MANY for _ in range(5)))
    assert answers == [b"value"] * 5 + [None] * 995
    assert redis.counters.exhausted == redis.breaker.outages == 0
    for raw in raws:
        ours = [one for one in await raw.client_list() if one["name"] == "datanadhi-worker"]
        assert 1 <= len(ours) <= MOST_CONNECTIONS


async def test_the_right_to_watch_is_had_in_a_cluster(clustered: RedisCache) -> None:
    lock, rival = (WatchLock(clustered, "database", seconds=5) for _ in range(2))
    assert await lock.acquire()
    assert await lock.advance(b"token")
    assert not await rival.acquire()
    await lock.release()
    assert await rival.acquire()
    assert rival.token == b"token"


async def test_a_server_that_is_no_cluster_is_an_outage(redis_url: str, servers: ClusterServers) -> None:
    assert servers
    redis = RedisCache.configure(redis_url.replace("redis://", "redis+cluster://"))
    while redis.state == "closed":
        assert await redis.safe_get("key") is None
    assert not await redis.safe_set("key", "value", 100)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SentinelServers]:
    """With users and passwords, other ones for the sentinels than for what they watch over."""
    settings = (
        f"sentinel auth-user {SERVICE} worker\nsentinel auth-pass {SERVICE} p@ss:w/rd\n"
        "user default on nopass ~* &* +@all\nuser asker on >sent!nel ~* &* +@all\n"
    )
    options = (*ACL, "--masteruser", "worker", "--masterauth", "p@ss:w/rd")
    async with sentinels(tmp_path_factory.mktemp("sentinel"), options=options, settings=settings) as servers:
        yield servers


async def test_sentinels_lead_to_the_primary_with_user_password_database_and_name(watched: SentinelServers) -> None:
    redis = RedisCache.configure(
        f"redis+sentinel://worker:p%40ss%3Aw%2Frd@{watched.addresses}/{SERVICE}/3"
        "?sentinel_username=asker&sentinel_password=sent%21nel",
        client_name="somebody",
    )
    assert await redis.safe_set("key", "value", 100)
    assert await redis.safe_get("key") == b"value"
    await asyncio.gather(*(redis.safe_get("key") for _ in range(200)))
    async with client(watched.primary, username="worker", password="p@ss:w/rd", db=3) as raw:
        assert await raw.get("key") == b"value"
        ours = [one for one in await raw.client_list() if one["name"] == "somebody"]
        assert 1 <= len(ours) <= MOST_CONNECTIONS
        await raw.client_kill_filter(_type="normal", skipme=True)
    assert repr(redis) == f"<RedisCache {SERVICE} of the sentinels {watched.addresses} closed>"


async def test_a_service_that_the_sentinels_do_not_know_is_an_outage(watched: SentinelServers) -> None:
    redis = RedisCache.configure(f"redis+sentinel://worker:p%40ss%3Aw%2Frd@{watched.addresses}/other")
    while redis.state == "closed":
        assert await redis.safe_get("key") is None


def _parsed(url: str) -> tuple[Topology, tuple[Node, ...], str, dict[str, object]]:
    address = parse(url, timeout=1, client_name="name")
    shown = {name: address.options[name] for name in ("username", "password", "db") if address.options.get(name)}
    assert "secret" not in repr(address)
    return address.topology, address.nodes, address.service, shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", (Topology.SERVER, (Node("host", 6379),), "", {})),
        (
            "redis://u:secret@host:1/2",
            (Topology.SERVER, (Node("host", 1),), "", _U := {"username": "u", "password": "secret", "db": 2}),
        ),
        ("unix://u:secret@/path?db=2", (Topology.SERVER, (), "", _U)),
        ("redis+cluster://a,b:2,[::1]:3", (Topology.CLUSTER, (Node("a", 6379), Node("b", 2), Node("::1", 3)), "", {})),
        ("rediss+cluster://:secret@a/0", (Topology.CLUSTER, (Node("a", 6379),), "", {"password": "secret"})),
        ("redis+sentinel://a,b:2/s", (Topology.SENTINEL, (Node("a", 26379), Node("b", 2)), "s", {})),
        ("redis+sentinel://u:secret@a/s%20t/2", (Topology.SENTINEL, (Node("a", 26379),), "s t", _U)),
        ("rediss+sentinel://u:secret@a/1?db=2", (Topology.SENTINEL, (Node("a", 26379),), "1", _U)),
    ],
)
def test_an_address_is_understood(url: str, expected: object) -> None:
    assert _parsed(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://:planted@host/1",
        "redis+cluster://:planted@host:port",
        "redis+cluster://:planted@",
        "redis+cluster://:planted/x@host",
        "redis+sentinel://:planted@host",
        "redis+sentinel://:planted@host/service/database",
        "redis+planted://host/service",
        "unix+sentinel://planted/service/1/2",
        "redis://:planted@host?unknown=planted",
        "rediss://:planted@host?ssl_ca_certs=/planted",
        "rediss+cluster://:planted@host?ssl_planted=x",
    ],
)
def test_an_address_that_cannot_be_understood_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="address of Redis") as refusal:
        RedisCache.configure(url)
    error: BaseException | None = refusal.value
    while error is not None:
        assert "planted" not in str(error)
        error = None if error.__suppress_context__ else error.__context__
