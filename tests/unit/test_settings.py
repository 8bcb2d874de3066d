"""The settings: where they come from, what they accept, and that none of them is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from typer.testing import CliRunner

from workers.cli import app
from workers.settings import SCHEMES, LogLevel, Role, Settings

PLANTED = "hush-0451"
"""Short, because pydantic shortens the values that it shows."""
MASKED = sorted(name for name, field in Settings.model_fields.items() if field.annotation is SecretStr)
SAYS_SECRET = ("sec_", "secret", "nonce", "access_key", "password", "token")


def planted_in(name: str) -> str:
    """A value for a setting, valid and recognisable."""
    return SCHEMES.get(name, ("",))[0] + PLANTED


@pytest.fixture(autouse=True)
def _almost_empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine and no .env file of the clone reaches a test; what must be set is."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("SEC_DB", "secret")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MASKED)
def test_a_secret_is_in_no_text_made_of_the_settings(name: str) -> None:
    settings = Settings(**{name: planted_in(name)})
    assert getattr(settings, name).get_secret_value() == planted_in(name)
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump()), f"{settings}"):
        assert PLANTED not in text


def test_all_that_sounds_secret_and_all_addresses_that_may_hold_a_password_are_masked() -> None:
    secret = {name for name in Settings.model_fields if any(word in name for word in SAYS_SECRET)}
    with_password = {name for name in Settings.model_fields if name.endswith("_url")} - {"slack_api_url"}
    assert secret | with_password == set(MASKED)


@pytest.mark.parametrize("name", sorted(set(MASKED) - {"sec_db"}))
def test_an_error_about_one_setting_shows_no_secret_of_another(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a missing setting, pydantic would show all the others."""
    monkeypatch.setenv(name.upper(), planted_in(name))
    monkeypatch.delenv("SEC_DB")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert PLANTED not in str(caught.value)
    assert PLANTED not in repr(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CACHE_TIMEOUT_MS", "0", "greater than or equal to 1"),
        ("CACHE_TIMEOUT_MS", "soon", "valid integer"),
        ("CACHE_NEAR_TTL_MS", "-1", "greater than or equal to 0"),
        ("WORKER_TYPE", "fast", "'pipeline', 'destination' or 'all'"),
        ("MINIO_SECURE", "perhaps", "valid boolean"),
        ("LOG_LEVEL", "loud", "'DEBUG', 'INFO'"),
        ("MONGO_URL", f"postgres://{PLANTED}", "must start with mongodb://"),
        ("REDIS_URL", PLANTED, "must start with redis://"),
        ("FAILURE_STORE_URL", PLANTED, "must start with file:///"),
        ("SLACK_API_URL", PLANTED, "must start with http://"),
        ("HEALTH_ADDRESS", PLANTED, "host:port"),
        ("METRICS_ADDRESS", "127.0.0.1:99999", "host:port"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value itself is not repeated: a secret may have been put into the wrong variable."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    message = str(caught.value)
    assert name.lower() in message
    assert expected in message
    assert PLANTED not in message
    assert "input_value" not in message


def test_without_the_secret_of_the_database_there_is_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEC_DB")
    with pytest.raises(ValidationError, match="sec_db"):
        Settings()


def test_the_command_line_tells_a_bad_value_in_one_line_and_ends_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_TIMEOUT_MS", PLANTED)
    result = CliRunner().invoke(app, ["run"])
    assert result.exit_code == 2
    assert result.output.startswith("CACHE_TIMEOUT_MS: ")
    assert len(result.output.splitlines()) == 1
    assert PLANTED not in result.output


@pytest.mark.parametrize(
    ("value", "role", "runs_pipelines", "delivers"),
    [
        ("pipeline", Role.PIPELINE, True, False),
        ("main", Role.PIPELINE, True, False),
        ("Main", Role.PIPELINE, True, False),
        ("destination", Role.DESTINATION, False, True),
        ("DESTINATION", Role.DESTINATION, False, True),
        ("all", Role.ALL, True, True),
    ],
)
def test_worker_type_names_a_role(
    value: str, role: Role, *, runs_pipelines: bool, delivers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_TYPE", value)
    settings = Settings()
    assert settings.worker_type is role
    assert settings.worker_type.runs_pipelines is runs_pipelines
    assert settings.worker_type.delivers is delivers


def test_without_any_variable_the_worker_runs_against_this_machine() -> None:
    settings = Settings()
    assert settings.worker_type is Role.ALL
    assert settings.task_queue == "default"
    assert settings.log_level is LogLevel.INFO
    assert settings.mongo_url.get_secret_value() == "mongodb://127.0.0.1:27017"
    assert settings.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose and Kubernetes hand on empty strings where nothing was set."""
    monkeypatch.setenv("CACHE_TIMEOUT_MS", "")
    monkeypatch.setenv("TASK_QUEUE", "")
    assert Settings().cache_timeout_ms == Settings.model_fields["cache_timeout_ms"].default
    assert Settings().task_queue == "default"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("TASK_QUEUE=from-file\nMONGO_DATABASE=from-file\n")
    monkeypatch.setenv("TASK_QUEUE", "from-environment")
    settings = Settings()
    assert settings.task_queue == "from-environment"
    assert settings.mongo_database == "from-file"


def test_the_log_level_is_read_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "warning")
    assert Settings().log_level is LogLevel.WARNING


def test_settings_do_not_change() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.task_queue = "other"


@pytest.mark.parametrize("address", ["localhost:9464", ":9464", "[::1]:9464", "0.0.0.0:1", "worker-1.svc:65535"])
def test_an_address_to_listen_on_is_a_name_a_number_or_every_interface(address: str) -> None:
    settings = Settings(metrics_address=address, health_address=address)
    assert (settings.metrics_address, settings.health_address) == (address, address)


@pytest.mark.parametrize(
    "address",
    ["h", "h:", "h:0", "h:65536", "::1:9464", "http://h:1", "h:1/metrics", "two words:1", "h:１", "[h]:1"],  # noqa: RUF001 a digit that is none on purpose
)
@pytest.mark.parametrize("name", ["metrics_address", "health_address", "temporal_host"])
def test_anything_else_is_no_address(name: str, address: str) -> None:
    with pytest.raises(ValidationError, match="host:port"):
        Settings(**{name: address})


def test_to_connect_takes_a_host() -> None:
    with pytest.raises(ValidationError, match="host:port"):
        Settings(temporal_host=":7233")


@pytest.mark.parametrize(
    "url",
    [
        *("redis://h", "rediss://h", "unix:///run/redis.sock"),
        *("redis+cluster://a:1,b:2", "rediss+cluster://a:1,b:2"),
        *("redis+sentinel://a:1,b:2/main/0", "rediss+sentinel://a:1,b:2/main/0"),
    ],
)
def test_redis_may_be_a_server_a_socket_a_cluster_or_behind_sentinels(url: str) -> None:
    assert Settings(redis_url=url).redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    ("value", "keys"), [("", ()), ("one", ("one",)), ("new,old", ("new", "old")), (" new , old ", ("new", "old"))]
)
def test_sealing_takes_several_keys_the_newest_first(value: str, keys: tuple[str, ...]) -> None:
    assert Settings(cache_secret_key=value).cache_secret_keys == keys


@pytest.mark.parametrize("value", [",", f"{PLANTED},", f",{PLANTED}", f"{PLANTED},,other", " "])
def test_a_key_for_sealing_is_never_empty(value: str) -> None:
    """It would be a key that everybody knows."""
    with pytest.raises(ValidationError, match="none of them empty") as caught:
        Settings(cache_secret_key=value)
    assert PLANTED not in str(caught.value)


@pytest.mark.parametrize("seconds", [-1, 86_401])
def test_what_is_known_serves_for_a_day_at_most(seconds: int) -> None:
    with pytest.raises(ValidationError, match="cache_stale_max_s"):
        Settings(cache_stale_max_s=seconds)


def test_failures_go_to_a_local_folder_a_bucket_or_where_the_url_says(tmp_path: Path) -> None:
    assert Settings().failure_store_options() == {"url": (tmp_path / "failures").as_uri()}
    minio = Settings(minio_endpoint="store:9000", minio_access_key="a", minio_secret_key="b")
    assert minio.failure_store_options() == {
        "url": "s3://failures",
        "endpoint": "store:9000",
        "access_key": "a",
        "secret_key": "b",
        "secure": False,
    }
    prefixed = Settings(minio_endpoint="store:9000", failure_store_url="s3://other/prefix")
    assert prefixed.failure_store_options()["url"] == "s3://other/prefix"
    assert Settings(failure_store_url="memory:///").failure_store_options() == {"url": "memory:///"}
