"""The only reader of the environment: every variable the worker knows, typed, with secrets masked in every repr."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.envconfig import ClientConfig, ClientConnectConfig

ENVIRONMENT_FILE = ".env"
DEFAULT_DATABASE = "datanadhi"
DEFAULT_TEMPORAL_HOST = "127.0.0.1:7233"
HIGHEST_PORT = 65535
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):(?P<port>[0-9]{1,5})")
SCHEMES: dict[str, tuple[str, ...]] = {
    "mongo_url": ("mongodb://", "mongodb+srv://"),
    "redis_url": (
        *("redis://", "rediss://", "unix://"),
        *("redis+cluster://", "rediss+cluster://", "redis+sentinel://", "rediss+sentinel://"),
    ),
    "failure_store_url": ("file:///", "s3://", "memory:///"),
    "slack_api_url": ("http://", "https://"),
}
"""What each address may start with."""

TEMPORAL_FILE_VARIABLES = frozenset({"TEMPORAL_CONFIG_FILE", "TEMPORAL_PROFILE"})
"""What asks for Temporal's configuration file."""


class UnusableSettingError(Exception):
    """A setting that cannot be used. The message names its variable and shows no secret: it is printed as it is."""


def is_host_and_port(value: str, *, host_needed: bool = True) -> bool:
    """Whether an address is `host:port`: a name, an IPv4 address or an IPv6 address in brackets, and no scheme."""
    found = _HOST_AND_PORT.fullmatch(value)
    return found is not None and 0 < int(found["port"]) <= HIGHEST_PORT and (found["host"] != "" or not host_needed)


class Role(StrEnum):
    """What a worker process does: run pipelines, deliver, or both."""

    PIPELINE = "pipeline"
    DESTINATION = "destination"
    ALL = "all"

    @property
    def runs_pipelines(self) -> bool:
        """Whether it polls `<task queue>`."""
        return self is not Role.DESTINATION

    @property
    def delivers(self) -> bool:
        """Whether it polls `<task queue>-destination`."""
        return self is not Role.PIPELINE


class LogLevel(StrEnum):
    """Levels of logging, by their names in Python."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Settings(BaseSettings):
    """The worker's settings, read from the environment and from a `.env` file where there is one.

    Addresses that may carry a password are secrets too: their repr is masked.
    """

    model_config = SettingsConfigDict(
        env_file=ENVIRONMENT_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # an error that is printed or logged must not show a secret
    )

    mongo_url: SecretStr = Field(
        SecretStr("mongodb://127.0.0.1:27017"), description="MongoDB, the source of truth; may name the database"
    )
    mongo_database: str = Field("", description="Database; where empty, the one in MONGO_URL, else datanadhi")
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis, the cache: redis://, rediss:// (TLS), unix://, redis+cluster://, redis+sentinel://",
    )
    sec_db: SecretStr = Field(
        min_length=1, description="Secret under which credentials and secrets are encrypted in MongoDB; required"
    )
    sec_global: SecretStr = Field(SecretStr(""), description="Secret under which API keys are encrypted")
    nonce_value: SecretStr = Field(SecretStr(""), description="What the innermost layer of an API key holds")

    temporal_host: str = Field("", description="Temporal's host:port; TEMPORAL_ADDRESS, if set, is preferred")
    task_queue: str = Field("default", min_length=1, description="Task queue of the workflows (the processor's id)")
    worker_type: Role = Field(Role.ALL, description="pipeline (main is accepted), destination or all")

    minio_endpoint: str = Field("", description="host:port of an S3-compatible store for failures")
    minio_access_key: SecretStr = Field(SecretStr(""), description="Its access key")
    minio_secret_key: SecretStr = Field(SecretStr(""), description="Its secret key")
    minio_bucket: str = Field("failures", description="Its bucket")
    minio_secure: bool = Field(default=False, description="Whether it speaks TLS")
    failure_store_url: SecretStr = Field(
        SecretStr(""),
        description="file:///folder, s3://bucket/prefix or memory:///; where empty, MINIO_*, else ./failures",
    )

    slack_api_url: str = Field("https://slack.com/api/", description="Base address of Slack's Web API")
    cache_timeout_ms: int = Field(250, ge=1, le=60_000, description="Longest a cache operation may take")
    cache_near_ttl_ms: int = Field(2000, ge=0, le=600_000, description="How long a process remembers by itself; 0: off")
    cache_stale_max_s: int = Field(
        3600, ge=0, le=86_400, description="How long the last known value may serve while MongoDB is away"
    )
    cache_secret_key: SecretStr = Field(
        SecretStr(""),
        description="Seals credentials and secrets in Redis; several keys are separated by commas, the newest first",
    )
    cache_watch: bool = Field(
        default=True, description="Whether to watch MongoDB's change streams and delete from Redis what changed"
    )
    health_address: str = Field("", description="host:port of /livez and /readyz; empty: off")
    metrics_address: str = Field("", description="host:port of the Prometheus endpoint; empty: off")
    log_level: LogLevel = Field(LogLevel.INFO, description="Least level that is logged")

    @field_validator(*SCHEMES)
    @classmethod
    def _known_scheme(cls, value: SecretStr | str, field: ValidationInfo) -> SecretStr | str:
        url = value.get_secret_value() if isinstance(value, SecretStr) else value
        schemes = SCHEMES[field.field_name or ""]
        if url and not url.startswith(schemes):
            raise ValueError(f"must start with {' or '.join(schemes)}")
        return value

    @field_validator("health_address", "metrics_address", "temporal_host")
    @classmethod
    def _host_and_port(cls, value: str, field: ValidationInfo) -> str:
        # To listen on :port is to listen everywhere; to connect takes a host.
        if value and not is_host_and_port(value, host_needed=field.field_name == "temporal_host"):
            raise ValueError("must be host:port")
        return value

    @field_validator("cache_secret_key")
    @classmethod
    def _no_empty_key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not all(_keys_in(value)):
            raise ValueError("must be keys separated by commas, none of them empty")
        return value

    @field_validator("worker_type", mode="before")
    @classmethod
    def _main_means_pipeline(cls, value: object) -> object:
        lowered = value.lower() if isinstance(value, str) else value
        return Role.PIPELINE if lowered == "main" else lowered

    @field_validator("log_level", mode="before")
    @classmethod
    def _levels_in_any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def database(self) -> str:
        """MongoDB's database: MONGO_DATABASE, else the one that MONGO_URL names, else `datanadhi`."""
        in_url = unquote(urlsplit(self.mongo_url.get_secret_value()).path.lstrip("/"))
        return self.mongo_database or in_url or DEFAULT_DATABASE

    @property
    def cache_secret_keys(self) -> tuple[str, ...]:
        """The keys in CACHE_SECRET_KEY, newest first; none where it is empty."""
        return _keys_in(self.cache_secret_key) if self.cache_secret_key else ()

    def temporal_connection(self) -> ClientConnectConfig:
        """How to reach Temporal: its own TEMPORAL_* variables and the profile they name, else TEMPORAL_HOST.

        Raises:
            UnusableSettingError: They cannot be understood, or a file that they name cannot be read.
        """
        variables = {**_not_empty(dotenv_values(ENVIRONMENT_FILE)), **_not_empty(os.environ)}
        if variables.get("TEMPORAL_TLS", "true").lower() not in {"true", "false", "1", "0"}:
            raise UnusableSettingError("TEMPORAL_TLS: must be true or false")
        config = _connect_config(variables)
        config.setdefault("target_host", self.temporal_host or DEFAULT_TEMPORAL_HOST)
        if not is_host_and_port(config["target_host"]):
            raise UnusableSettingError("TEMPORAL_ADDRESS: must be host:port, here or in the profile")
        return config

    def failure_store_options(self) -> dict[str, Any]:
        """What `FailureStore.open` takes: FAILURE_STORE_URL, else the bucket of MINIO_*, else a local folder."""
        url = self.failure_store_url.get_secret_value()
        if not self.minio_endpoint:
            return {"url": url or (Path.cwd() / "failures").as_uri()}
        return {
            "url": url or f"s3://{self.minio_bucket}",
            "endpoint": self.minio_endpoint,
            "access_key": self.minio_access_key.get_secret_value(),
            "secret_key": self.minio_secret_key.get_secret_value(),
            "secure": self.minio_secure,
        }


def _keys_in(value: SecretStr) -> tuple[str, ...]:
    return tuple(key.strip() for key in value.get_secret_value().split(","))


def _not_empty(variables: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value}


def _connect_config(variables: Mapping[str, str]) -> ClientConnectConfig:
    # A file in the home folder is there for its owner's own commands: for a worker it is used if asked for.
    asked_for = not TEMPORAL_FILE_VARIABLES.isdisjoint(variables)
    file = variables.get("TEMPORAL_CONFIG_FILE")
    if file and not Path(file).is_file():  # the SDK would do without it
        raise UnusableSettingError("TEMPORAL_CONFIG_FILE: there is no such file")
    try:
        return ClientConfig.load_client_connect_config(override_env_vars=variables, disable_file=not asked_for)
    except OSError as error:  # not its path: a certificate itself may have been put there
        raise UnusableSettingError(f"TEMPORAL_TLS_*: a file cannot be read ({error.strerror})") from None
    except RuntimeError:  # what the SDK raises; its words quote lines of the file, an API key perhaps
        names = " or ".join(sorted(TEMPORAL_FILE_VARIABLES & variables.keys())) or "TEMPORAL_*"
        raise UnusableSettingError(f"{names}: Temporal's configuration cannot be used") from None
