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
    for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))
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


@pytest.mark.parametrize(
    ("variables", "target"),
    [
        ({}, "127.0.0.1:7233"),
        ({"TEMPORAL_HOST": "temporal:7233"}, "temporal:7233"),
        ({"TEMPORAL_HOST": "temporal:7233", "TEMPORAL_ADDRESS": "cloud:7233"}, "cloud:7233"),
    ],
)
def test_temporal_is_found_by_its_own_variables_first(
    variables: dict[str, str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().temporal_connection()["target_host"] == target


def test_temporals_own_variables_may_stand_in_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TEMPORAL_ADDRESS=from-file:7233\nTEMPORAL_NAMESPACE=logs\n")
    connection = Settings().temporal_connection()
    assert connection["target_host"] == "from-file:7233"
    assert connection["namespace"] == "logs"


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
