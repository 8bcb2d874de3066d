"""The only reader of the environment: every variable the worker knows, typed, with secrets masked in every repr."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


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


class Settings(BaseSettings):
    """The worker's settings, read from the environment and from a `.env` file where there is one.

    Addresses that may carry a password are secrets too: their repr is masked.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    mongo_url: SecretStr = Field(
        SecretStr("mongodb://127.0.0.1:27017"), description="MongoDB, the source of truth; may name the database"
    )
    mongo_database: str = Field("", description="Database; where empty, the one in MONGO_URL, else datanadhi")
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="Redis, the cache: redis://, rediss:// or unix://"
    )
    sec_db: SecretStr = Field(
        SecretStr(""), description="Secret under which credentials and secrets are encrypted in MongoDB"
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
    health_address: str = Field("", description="host:port of /livez and /readyz; empty: off")
    metrics_address: str = Field("", description="host:port of the Prometheus endpoint; empty: off")
    log_level: str = Field(
        "INFO", validation_alias=AliasChoices("log_level", "LOG_LEVEL"), description="Least level that is logged"
    )

    @field_validator("worker_type", mode="before")
    @classmethod
    def _main_means_pipeline(cls, value: object) -> object:
        lowered = value.lower() if isinstance(value, str) else value
        return Role.PIPELINE if lowered == "main" else lowered
