"""What docker-compose.yml, the Dockerfile and .env.example promise, without an engine to run them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml
from pydantic import SecretStr

from workers.settings import Settings

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "tests" / "data" / "compose" / "compose-spec.json"
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ENVIRONMENT_EXAMPLE = (ROOT / ".env.example").read_text()

VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[?-])(?P<rest>[^}]*))?\}")
SETTINGS = {name.upper(): field for name, field in Settings.model_fields.items()}
MOVING_TAGS = {"latest", "stable", "main", "edge"}


def rendered(value: str) -> str:
    """A value as Compose renders it where no variable with a default is set and every required one is `secret`."""
    return VARIABLE.sub(lambda match: match["rest"] if match["kind"] == "-" else "secret", value)


def worker_environment() -> dict[str, str]:
    return {name: rendered(value) for name, value in SERVICES["worker"]["environment"].items() if value is not None}


def published_ports() -> list[tuple[str, str]]:
    return [(name, port) for name, service in SERVICES.items() for port in service.get("ports", [])]


def dependencies() -> list[tuple[str, str, str]]:
    return [
        (name, needed, how["condition"])
        for name, service in SERVICES.items()
        for needed, how in service.get("depends_on", {}).items()
    ]


def test_the_file_has_the_shape_of_the_compose_specification() -> None:
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(COMPOSE)


@pytest.mark.parametrize(("service", "port"), published_ports())
def test_every_port_is_published_on_loopback_alone(service: str, port: str) -> None:
    assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), service


@pytest.mark.parametrize("service", sorted(SERVICES.keys() - {"worker"}))
def test_every_image_is_pinned_to_a_release(service: str) -> None:
    _, _, tag = SERVICES[service]["image"].partition(":")
    assert re.search(r"\d+\.\d+", tag), "an image without a release in its tag changes by itself"
    assert tag not in MOVING_TAGS


@pytest.mark.parametrize(("service", "needed", "condition"), dependencies())
def test_what_a_service_waits_for_can_come_true(service: str, needed: str, condition: str) -> None:
    """Waiting for the health of a service without a health check, or for the end of one that restarts, never ends."""
    assert needed in SERVICES, service
    if condition == "service_healthy":
        assert needed == "worker" or "healthcheck" in SERVICES[needed]
    else:
        assert condition == "service_completed_successfully"
        assert SERVICES[needed]["restart"] == "no"


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_says_whether_it_is_restarted(service: str) -> None:
    assert SERVICES[service]["restart"] in {"unless-stopped", "no"}


def test_secrets_come_from_the_environment_and_are_asked_for() -> None:
    """No password stands in the file: each is a variable, and Compose refuses to start without it."""
    secret = re.compile(r"(PASSWORD|PWD|SECRET_KEY|ACCESS_KEY|CLI_AUTH|SEC_DB)$")
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if secret.search(variable) and value is not None:  # without a value it is handed on as .env has it
                assert VARIABLE.fullmatch(value), f"{name}: {variable}"
                assert ":?" in value, f"{name}: {variable}"


def test_the_worker_is_given_every_setting_and_nothing_else() -> None:
    assert SERVICES["worker"]["environment"].keys() == SETTINGS.keys()


def test_the_worker_starts_with_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in worker_environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert settings.mongo_url.get_secret_value().startswith("mongodb://datanadhi:secret@mongodb:27017/")
    assert settings.failure_store_options()["url"] == "s3://failures"


@pytest.mark.parametrize("variable", ["MONGO_URL", "REDIS_URL", "TEMPORAL_HOST", "MINIO_ENDPOINT"])
def test_the_worker_is_pointed_at_services_of_the_file(variable: str) -> None:
    address = worker_environment()[variable]
    host = urlsplit(address if "://" in address else f"//{address}").hostname
    assert host in SERVICES
    assert host in SERVICES["worker"]["depends_on"]


def test_the_worker_is_healthy_when_it_is_ready() -> None:
    port = worker_environment()["HEALTH_ADDRESS"].rpartition(":")[2]
    assert f"http://127.0.0.1:{port}/readyz" in " ".join(SERVICES["worker"]["healthcheck"]["test"])
    assert f"127.0.0.1:{port}:{port}" in SERVICES["worker"]["ports"]


def test_the_worker_has_longer_to_stop_than_its_activities_have() -> None:
    from workflows.policies import DRAIN  # noqa: PLC0415 - the one policy that the file repeats

    assert int(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) > DRAIN.total_seconds()


def test_mongodb_becomes_a_replica_set_under_the_name_it_is_reached_by() -> None:
    check = " ".join(SERVICES["mongodb"]["healthcheck"]["test"])
    name = re.search(r"replicaSet=(\w+)", worker_environment()["MONGO_URL"])
    assert name is not None
    assert f'_id: "{name[1]}"' in check
    assert 'host: "mongodb:27017"' in check
    assert f"--replSet {name[1]} " in " ".join(SERVICES["mongodb"]["command"])


def test_the_bucket_made_is_the_bucket_used() -> None:
    made = rendered(SERVICES["object-store-bucket"]["entrypoint"][-1])
    assert made == f"/data/{worker_environment()['MINIO_BUCKET']}"
    assert SERVICES["object-store-bucket"]["volumes"] == SERVICES["object-store"]["volumes"]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_example_environment_explains_a_setting(name: str) -> None:
    field = SETTINGS[name]
    default = "" if field.is_required() else field.default
    default = default.get_secret_value() if isinstance(default, SecretStr) else default
    value = str(default).lower() if isinstance(default, bool) else str(default)
    assert f"\n# {field.description}\n# {name}={value}\n" in ENVIRONMENT_EXAMPLE


def test_the_example_environment_names_settings_and_passwords_of_compose_alone() -> None:
    named = set(re.findall(r"^#? ?(\w+)=", ENVIRONMENT_EXAMPLE, re.MULTILINE))
    used = {match["name"] for match in VARIABLE.finditer(TEXT)}
    assert named == SETTINGS.keys() | used


def test_the_example_environment_sets_nothing() -> None:
    """Copied as it is, it changes nothing."""
    assert all(line.startswith("#") or not line for line in ENVIRONMENT_EXAMPLE.splitlines())


def test_the_image_is_built_on_one_pinned_release() -> None:
    bases = re.findall(r"^FROM (\S+)(?: AS (\w+))?", DOCKERFILE, re.MULTILINE)
    stages = {stage for _, stage in bases}
    outside = {image for image, _ in bases} - stages
    assert len(outside) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", outside.pop())


def test_the_image_runs_the_worker_without_rights_and_without_a_shell() -> None:
    final = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert re.search(r"^USER [1-9]\d*$", final, re.MULTILINE), (
        "a number, so that an orchestrator can tell it is not root"
    )
    assert re.search(r'^ENTRYPOINT \["datanadhi-worker"\]$', final, re.MULTILINE)
    assert re.search(r'^CMD \["run"\]$', final, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*\\\n    CMD \[.*:8080/livez", final, re.MULTILINE)
    assert "HEALTH_ADDRESS=0.0.0.0:8080" in final


def test_the_image_is_built_from_files_that_its_context_holds() -> None:
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
