"""How Temporal is found: its own variables, the profile they name, and nothing that nobody asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.settings import DEFAULT_TEMPORAL_HOST, Settings, UnusableSettingError

PLANTED = "hush-0451"

Connection = Callable[..., dict[str, object]]


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Connection:
    """What the settings make of these variables, in a home and a folder of the test's own."""
    for name in list(os.environ):
        if name.startswith("TEMPORAL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SEC_DB", "secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)

    def connection(**variables: str) -> dict[str, object]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return dict(Settings().temporal_connection())

    return connection


@pytest.fixture
def home_file(tmp_path: Path) -> Path:
    """Where Temporal's own commands keep their profiles, on Linux."""
    path = tmp_path / ".config" / "temporalio" / "temporal.toml"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("variables", "target"),
    [
        ({}, DEFAULT_TEMPORAL_HOST),
        ({"TEMPORAL_HOST": "temporal:7233"}, "temporal:7233"),
        ({"TEMPORAL_HOST": "temporal:7233", "TEMPORAL_ADDRESS": "cloud:7233"}, "cloud:7233"),
    ],
)
def test_temporal_is_found_by_its_own_variables_first(
    variables: dict[str, str], target: str, connection: Connection
) -> None:
    assert connection(**variables) == {"target_host": target}


def test_temporals_own_variables_may_stand_in_the_file(tmp_path: Path, connection: Connection) -> None:
    (tmp_path / ".env").write_text("TEMPORAL_ADDRESS=from-file:7233\nTEMPORAL_NAMESPACE=logs\n")
    assert connection() == {"target_host": "from-file:7233", "namespace": "logs"}


@pytest.mark.parametrize(
    "name", ["TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY", "TEMPORAL_TLS", "TEMPORAL_CONFIG_FILE"]
)
def test_an_empty_variable_of_temporals_counts_as_not_set(name: str, connection: Connection) -> None:
    """Compose and Kubernetes hand on empty strings where nothing was set; an empty API key would ask for TLS."""
    assert connection(**{name: ""}) == {"target_host": DEFAULT_TEMPORAL_HOST}


def test_an_empty_variable_hides_none_of_the_file(tmp_path: Path, connection: Connection) -> None:
    (tmp_path / ".env").write_text("TEMPORAL_ADDRESS=from-file:7233\nTEMPORAL_TLS=\n")
    assert connection(TEMPORAL_ADDRESS="") == {"target_host": "from-file:7233"}


@pytest.mark.parametrize("text", ['[profile.default]\naddress = "home:7233"\n', "this is no TOML"])
def test_a_file_in_the_home_folder_is_not_meant_for_a_worker(
    text: str, home_file: Path, connection: Connection
) -> None:
    home_file.write_text(text)
    assert connection(TEMPORAL_HOST="temporal:7233") == {"target_host": "temporal:7233"}


def test_it_is_read_when_a_profile_is_asked_for(home_file: Path, connection: Connection) -> None:
    home_file.write_text('[profile.logs]\naddress = "home:7233"\n')
    assert connection(TEMPORAL_PROFILE="logs", TEMPORAL_HOST="temporal:7233") == {"target_host": "home:7233"}


def test_a_file_is_read_when_it_is_asked_for(tmp_path: Path, connection: Connection) -> None:
    file = tmp_path / "named.toml"
    file.write_text('[profile.default]\naddress = "named:7233"\n')
    assert connection(TEMPORAL_CONFIG_FILE=str(file)) == {"target_host": "named:7233"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TEMPORAL_TLS", "maybe"),
        ("TEMPORAL_TLS", "off"),
        ("TEMPORAL_ADDRESS", "temporal"),
        ("TEMPORAL_ADDRESS", "http://temporal:7233"),
        ("TEMPORAL_PROFILE", "not-there"),
        ("TEMPORAL_TLS_CLIENT_KEY_PATH", PLANTED),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(name: str, value: str, connection: Connection) -> None:
    with pytest.raises(UnusableSettingError) as caught:
        connection(**{name: value})
    assert str(caught.value).startswith(name[: len("TEMPORAL_TLS")])
    assert PLANTED not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_file_is_not_quoted(tmp_path: Path, connection: Connection) -> None:
    file = tmp_path / "named.toml"
    file.write_text(f'[profile.default]\napi_key = "{PLANTED}\n')
    with pytest.raises(UnusableSettingError, match=r"^TEMPORAL_CONFIG_FILE: ") as caught:
        connection(TEMPORAL_CONFIG_FILE=str(file))
    assert PLANTED not in str(caught.value)


def test_a_configuration_file_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The SDK would go on without it, to another server than the one that was meant."""
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "gone.toml"))
    with pytest.raises(UnusableSettingError, match="TEMPORAL_CONFIG_FILE"):
        Settings.model_validate({"sec_db": "x"}).temporal_connection()
