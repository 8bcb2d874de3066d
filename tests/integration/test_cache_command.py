"""`datanadhi-worker cache ...` against real servers: what it does, and that it never shows a secret."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from cache import keys
from tests.harness import Platform
from tests.redis_topologies import cluster
from workers.cli import app
from workers.embedded.servers import free_port

SEC_DB = "my-secret-db-key"
SLACK_TOKEN = "xoxb-held-out"
PLANTED = {
    "slack": "xoxb-1234567890-planted",
    "password": "correct horse planted",
    "bare": "planted-bare-secret",
    "random": "9f8Jk2planted0LmQ7zR",
    "address": "hooks/T000/B000/planted",
}
API_KEY = "Y2Q0plantedAPIkey0123456789abcdefghijklmnop=="

HOSTILE = ["*", "a:b", "a[b", "two\nlines", "x" * 10_240, "ａcme", "", "a b"]  # noqa: RUF001 a look-alike on purpose


@dataclass
class Answer:
    """What a command came to: its exit code and all that it printed and logged."""

    code: int
    output: str


Run = Callable[..., Awaitable[Answer]]


@pytest.fixture
def environment(stored: Platform, own_redis_url: str) -> dict[str, str]:
    """What the command finds in its environment."""
    return {
        "MONGO_URL": stored.url,
        "MONGO_DATABASE": stored.database,
        "REDIS_URL": own_redis_url,
        "SEC_DB": SEC_DB,
        "CACHE_TIMEOUT_MS": "2000",  # a busy machine is not what is tested here
    }


@pytest.fixture
def run(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> Run:
    """Runs `datanadhi-worker cache <arguments>`; keywords change its environment."""

    async def run(*arguments: str, **changes: str) -> Answer:
        command = ["cache", *arguments]
        result = await asyncio.to_thread(CliRunner().invoke, app, command, env=environment | changes)
        return Answer(result.exit_code, result.output + caplog.text + repr(result.exception))

    return run


@pytest.fixture
async def raw(own_redis_url: str) -> AsyncIterator[Redis]:
    """An ordinary client of the same Redis."""
    async with Redis.from_url(own_redis_url) as client:
        yield client


@pytest.fixture
def nowhere() -> str:
    """An address of Redis where nobody listens."""
    return f"redis://:{PLANTED['bare']}@127.0.0.1:{free_port()}/0"


def tenant(organisation: str) -> dict[str, Any]:
    """A key of every family below an organisation, with secrets in every value that may hold one."""
    project, pipeline = (organisation, "shop"), (organisation, "shop", "orders")
    ids = {"organisationId": organisation, "projectId": "shop"}
    connector = {**ids, "connectorId": "bot", "integrationType": "slack", "encryptedCredentials": PLANTED["random"]}
    addressed = {"url": f"https://user:{PLANTED['bare']}@hooks.example/{PLANTED['address']}", "channel": "#alerts"}
    tagging = {"transformation_params": {"key": "$.password", "value": PLANTED["password"]}, "next": ["b"]}
    return {
        keys.organisation(organisation): {**ids, "organisationSecretEncrypted": PLANTED["random"]},
        keys.organisation_secret(organisation): PLANTED["bare"],
        keys.project(*project): {**ids, "projectSecretEncrypted": PLANTED["random"]},
        keys.project_secret(*project): PLANTED["bare"],
        keys.pipeline(*pipeline): {**ids, "pipelineId": "orders", "startNodeId": "a", "apiToken": PLANTED["slack"]},
        keys.pipeline_by_code(*project, "o-1"): {**ids, "pipelineCode": "o-1", "note": PLANTED["random"]},
        keys.workflow(*pipeline): {"a": tagging, "b": {"headers": {"X-Any": PLANTED["password"]}}},
        keys.target(*pipeline, "t"): {**ids, "targetId": "t", "destinationParams": addressed},
        keys.connector(*project, "bot"): connector,
        keys.decrypted_connector(*project, "bot"): {
            **connector,
            "creds": {"slackBotToken": PLANTED["slack"], "deeper": [{"x": PLANTED["password"]}]},
            "extra": PLANTED["password"],
        },
    }


async def plant(raw: Redis, organisation: str) -> set[str]:
    """Store a tenant; the names of its keys."""
    for key, value in tenant(organisation).items():
        await raw.set(key, value if isinstance(value, str) else json.dumps(value), ex=1000)
    return set(tenant(organisation))


async def stored_keys(raw: Redis) -> set[str]:
    return {key.decode() for key in await raw.keys()}


def assert_no_secret(output: str) -> None:
    for secret in [*PLANTED.values(), SLACK_TOKEN, API_KEY, SEC_DB]:
        assert secret not in output


async def test_stats_counts_the_keys_of_each_family_and_tells_their_ttls(run: Run, raw: Redis) -> None:
    for organisation in ("acme", "10"):
        await plant(raw, organisation)
    await raw.set(keys.api_key(API_KEY), '{"failure":true}', ex=150)
    await raw.set(keys.lease(keys.organisation("acme")), "token", px=60_000)
    await raw.set(f"{keys.PREFIX}somebody:else", "1")
    await raw.persist(keys.organisation("acme"))
    await raw.set("unrelated", "1")
    answer = await run("stats")
    assert answer.code == 0
    rows = {row[0]: row[1:] for row in map(str.split, answer.output.splitlines()) if row}
    labels = {family.label for family in keys.Family}
    assert {label: rows[label][0] for label in labels} == dict.fromkeys(labels, "2") | {"api_key": "1"}
    assert (rows["(lease)"], rows["(other)"], rows["keys:"]) == (["1"], ["1"], ["23"])
    assert rows["organisation"][4] == "1"  # without a TTL
    assert 900 < int(rows["target"][1]) <= int(rows["target"][2]) <= int(rows["target"][3]) <= 1000
    assert "reachable" in answer.output
    assert "breaker: closed" in answer.output
    assert rows["memory:"][1:2] == ["used,"]
    assert_no_secret(answer.output)


async def test_stats_says_that_redis_cannot_be_reached(run: Run, nowhere: str) -> None:
    answer = await run("stats", REDIS_URL=nowhere)
    assert answer.code == 1
    assert "could not be reached" in answer.output
    assert "breaker: open" in answer.output
    assert_no_secret(answer.output)


async def test_stats_shows_no_password_that_is_refused(run: Run, raw: Redis, own_redis_url: str) -> None:
    await raw.config_set("requirepass", "another")
    answer = await run("stats", REDIS_URL=own_redis_url.replace("redis://", f"redis://:{PLANTED['bare']}@"))
    assert answer.code == 1
    assert_no_secret(answer.output)


@pytest.mark.parametrize("key", tenant("acme"))
async def test_get_shows_a_document_and_its_ttl_and_no_secret(run: Run, raw: Redis, key: str) -> None:
    await plant(raw, "acme")
    answer = await run("get", key)
    assert answer.code == 0
    assert key in answer.output
    assert "expires in 1000 s" in answer.output or "expires in 99" in answer.output
    assert "***" in answer.output
    assert_no_secret(answer.output)


async def test_get_shows_what_is_no_secret(run: Run, raw: Redis) -> None:
    await plant(raw, "acme")
    answer = await run("get", keys.target("acme", "shop", "orders", "t"))
    assert '"targetId": "t"' in answer.output
    assert '"channel": "#alerts"' in answer.output
    assert "slack" in (await run("get", keys.decrypted_connector("acme", "shop", "bot"))).output


async def test_get_takes_a_key_without_its_prefix(run: Run, raw: Redis) -> None:
    await plant(raw, "acme")
    answer = await run("get", "org:acme:prj:shop")
    assert answer.code == 0
    assert '"projectId": "shop"' in answer.output


async def test_get_shortens_an_api_key(run: Run, raw: Redis) -> None:
    await raw.set(keys.api_key(API_KEY), '{"orgId":"acme","projectId":"shop"}', ex=300)
    answer = await run("get", f"apikey:{API_KEY}")
    assert answer.code == 0
    assert '"orgId": "acme"' in answer.output
    assert API_KEY[:6] in answer.output
    assert_no_secret(answer.output)


@pytest.mark.parametrize("value", [PLANTED["bare"], json.dumps(PLANTED["bare"]), json.dumps([PLANTED["bare"]]), "{"])
async def test_get_shows_nothing_of_a_value_that_is_no_document(run: Run, raw: Redis, value: str) -> None:
    await raw.set(keys.decrypted_connector("acme", "shop", "bot"), value, ex=60)
    answer = await run("get", keys.decrypted_connector("acme", "shop", "bot"))
    assert answer.code == 0
    assert "not shown" in answer.output
    assert_no_secret(answer.output)


async def test_get_lets_no_value_steer_the_terminal(run: Run, raw: Redis) -> None:
    await raw.set(keys.organisation("acme"), json.dumps({"organisationName": "\x1b[2J\x9b"}))
    answer = await run("get", keys.organisation("acme"))
    assert "never expires" in answer.output
    assert answer.output.isascii()
    assert "\x1b" not in answer.output


async def test_get_says_that_a_key_is_not_there(run: Run) -> None:
    answer = await run("get", keys.organisation("acme"))
    assert answer.code == 0
    assert "is not in Redis" in answer.output


async def test_get_says_that_redis_cannot_be_reached(run: Run, nowhere: str) -> None:
    answer = await run("get", keys.organisation("acme"), REDIS_URL=nowhere)
    assert answer.code == 1
    assert "could not be reached" in answer.output
    assert_no_secret(answer.output)


async def test_get_says_that_redis_refuses(run: Run, raw: Redis) -> None:
    await raw.lpush(keys.organisation("acme"), PLANTED["bare"])
    answer = await run("get", keys.organisation("acme"))
    assert answer.code == 1
    assert "refuses GET" in answer.output
    assert_no_secret(answer.output)


async def test_get_refuses_what_is_no_key_before_redis_is_asked(run: Run, nowhere: str) -> None:
    organisations = (f"org:{hostile}" for hostile in HOSTILE)
    for key in (*organisations, "*", f"apikye:{API_KEY}", f"apikey:{'x' * 9999}"):
        answer = await run("get", key, REDIS_URL=nowhere)  # asked, it would be out of reach: exit code 1
        assert answer.code == 2, key
        assert len(answer.output) < 400
        assert_no_secret(answer.output)


def beginning_with(names: set[str], *beginnings: str) -> set[str]:
    return {name for name in names if any(name == each or name.startswith(f"{each}:") for each in beginnings)}


PROJECT, PIPELINE = ("1", "shop"), ("1", "shop", "orders")
LEVELS = {
    ("organisation", "1"): (keys.organisation("1"),),
    ("project", *PROJECT): (keys.project(*PROJECT),),
    ("pipeline", *PIPELINE): (keys.pipeline(*PIPELINE), keys.pipelines_by_code(*PROJECT)),
    ("workflow", *PIPELINE): (keys.workflow(*PIPELINE),),
    ("target", *PIPELINE, "t"): (keys.target(*PIPELINE, "t"),),
    ("connector", *PROJECT, "bot"): (keys.connector(*PROJECT, "bot"),),
}


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level[0])
async def test_invalidate_deletes_a_level_and_nothing_beside_it(run: Run, raw: Redis, level: tuple[str, ...]) -> None:
    planted = {name for organisation in ("1", "10", "11") for name in await plant(raw, organisation)}
    answer = await run("invalidate", *level)
    assert answer.code == 0
    assert f"{level[0]} {'/'.join(level[1:])} is out of Redis" in answer.output
    gone = beginning_with(planted, *LEVELS[level])
    assert gone
    assert await stored_keys(raw) == planted - gone


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level[0])
async def test_invalidate_says_that_redis_cannot_be_reached(run: Run, nowhere: str, level: tuple[str, ...]) -> None:
    answer = await run("invalidate", *level, REDIS_URL=nowhere)
    assert answer.code == 1
    assert "could not be reached" in answer.output
    assert "Repeat" in answer.output
    assert_no_secret(answer.output)


async def test_invalidate_says_that_redis_takes_no_writes(run: Run, raw: Redis) -> None:
    planted = await plant(raw, "1")
    await raw.config_set("min-replicas-to-write", 1)
    answer = await run("invalidate", "organisation", "1")
    assert answer.code == 1
    assert "answers and refuses" in answer.output
    assert await stored_keys(raw) == planted


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level[0])
async def test_invalidate_refuses_hostile_identifiers(run: Run, nowhere: str, level: tuple[str, ...]) -> None:
    for hostile in HOSTILE:
        answer = await run("invalidate", *level[:-1], hostile, REDIS_URL=nowhere)
        assert answer.code == 2
        assert len(answer.output) < 400


async def test_warm_puts_all_that_a_pipeline_takes_into_redis(run: Run, raw: Redis, stored: Platform) -> None:
    pipeline = tuple(stored.identifiers.values())
    answer = await run("warm", "--pipeline", *pipeline)
    assert answer.code == 0
    targets = [target["targetId"] for target in stored.data["collections"]["IntegrationTargets"]]
    connector = stored.data["collections"]["IntegrationConnectors"][0]["connectorId"]
    expected = {
        keys.pipeline(*pipeline),
        keys.workflow(*pipeline),
        keys.decrypted_connector(*pipeline[:2], connector),
        *(keys.target(*pipeline, target) for target in targets),
    }
    assert await stored_keys(raw) == expected
    assert f"{len(expected)} of {len(expected)} values" in answer.output
    assert all([await raw.ttl(name) > 0 for name in expected])
    assert_no_secret(answer.output)


async def test_warm_reads_redis_first(run: Run, stored: Platform) -> None:
    pipeline = tuple(stored.identifiers.values())
    await run("warm", "--pipeline", *pipeline)
    answer = await run("warm", "--pipeline", *pipeline, MONGO_URL=f"mongodb://127.0.0.1:{free_port()}")
    assert answer.code == 0


async def test_warm_says_that_there_is_no_such_pipeline(run: Run, stored: Platform) -> None:
    organisation, project, _ = stored.identifiers.values()
    answer = await run("warm", "--pipeline", organisation, project, "none")
    assert answer.code == 1
    assert "there is no such pipeline" in answer.output


async def test_warm_says_which_target_is_missing(run: Run, stored: Platform) -> None:
    target = stored.data["collections"]["IntegrationTargets"][0]["targetId"]
    await stored.delete("IntegrationTargets", {"targetId": target})
    answer = await run("warm", "--pipeline", *stored.identifiers.values())
    assert answer.code == 1
    assert f"there is no target '{target}'" in answer.output


async def test_warm_says_whose_credentials_do_not_open(run: Run, stored: Platform) -> None:
    answer = await run("warm", "--pipeline", *stored.identifiers.values(), SEC_DB="another")
    assert answer.code == 1
    assert stored.data["collections"]["IntegrationConnectors"][0]["connectorId"] in answer.output
    assert "cannot be opened" in answer.output
    assert_no_secret(answer.output)


async def test_warm_says_that_redis_cannot_be_reached(run: Run, stored: Platform, nowhere: str) -> None:
    answer = await run("warm", "--pipeline", *stored.identifiers.values(), REDIS_URL=nowhere)
    assert answer.code == 1
    assert "could not be reached" in answer.output
    assert_no_secret(answer.output)


async def test_warm_says_that_mongodb_cannot_be_read(run: Run, stored: Platform) -> None:
    away = f"mongodb://user:{PLANTED['random']}@127.0.0.1:{free_port()}"
    answer = await run("warm", "--pipeline", *stored.identifiers.values(), MONGO_URL=away)
    assert answer.code == 1
    assert "MongoDB could not be read" in answer.output
    assert_no_secret(answer.output)


async def test_warm_refuses_hostile_identifiers(run: Run, nowhere: str) -> None:
    for hostile in HOSTILE:
        answer = await run("warm", "--pipeline", "acme", "shop", hostile, REDIS_URL=nowhere)
        assert answer.code == 2
        assert len(answer.output) < 400


@pytest.mark.parametrize("command", [("stats",), ("invalidate", "organisation", "1"), ("warm", "--pipeline", *"abc")])
async def test_an_address_that_cannot_be_understood_is_said_and_not_shown(run: Run, command: tuple[str, ...]) -> None:
    answer = await run(*command, REDIS_URL=f"redis://:{PLANTED['bare']}@host:port/0")
    assert answer.code == 2
    assert "REDIS_URL" in answer.output
    assert_no_secret(answer.output)


async def test_a_missing_setting_is_named(run: Run) -> None:
    answer = await run("stats", SEC_DB="")
    assert answer.code == 2
    assert "SEC_DB" in answer.output


async def test_a_process_of_its_own_prints_no_secret_on_either_stream(
    environment: dict[str, str], raw: Redis, stored: Platform, tmp_path: Path
) -> None:
    """As operators run it: its own logging, its own exit code."""
    await run_process(tmp_path, environment, "warm", "--pipeline", *stored.identifiers.values())
    connector = next(name for name in await stored_keys(raw) if name.endswith(":decrypted"))
    result = await run_process(tmp_path, environment, "get", connector)
    assert result.returncode == 0
    assert '"creds": "***"' in result.stdout
    assert_no_secret(result.stdout + result.stderr)


async def run_process(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "workers", "cache", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": root, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_answers_before_the_clients_are_imported() -> None:
    clients = ("redis", "pymongo", "temporalio.client", "cryptography", "cache")
    script = f"import sys, workers.cli; print([name for name in {clients} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


async def test_a_cluster_is_looked_into_as_one(run: Run, stored: Platform, tmp_path: Path) -> None:
    """Whatever node a key is on, `stats` counts it and `get` finds it."""
    ids = stored.identifiers
    pipeline = (ids["organisationId"], ids["projectId"], ids["pipelineId"])
    async with cluster(tmp_path / "cluster") as servers:
        address = {"REDIS_URL": f"redis+cluster://{servers.addresses}"}
        assert (await run("warm", "--pipeline", *pipeline, **address)).code == 0
        found = await run("stats", **address)
        assert found.code == 0
        counted = {line.split()[0]: line.split()[1] for line in found.output.splitlines() if len(line.split()) > 3}
        assert (counted["pipeline"], counted["workflow"], counted["target"]) == ("1", "1", "2")
        connector = stored.data["collections"]["IntegrationConnectors"][0]["connectorId"]
        shown = await run("get", keys.decrypted_connector(*pipeline[:2], connector), **address)
        assert shown.code == 0
        assert "***" in shown.output
        assert SLACK_TOKEN not in shown.output + found.output
