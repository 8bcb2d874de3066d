"""The sample tenant: a web shop's organisation, project, connectors, targets and pipeline, as MongoDB holds them."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from pymongo import AsyncMongoClient

from cache.crypto import seal

DATABASE = "datanadhi"
TASK_QUEUE = "default"
ORGANISATION_ID = "acme"
PROJECT_ID = "webshop"
PIPELINE_ID = "by-level"

ALERTS = "alerts"
ARCHIVE = "archive"
END_NODES = {ALERTS: "Slack", ARCHIVE: "webhook"}
"""The nodes at which records leave the pipeline, and the kind of destination behind each; targets bear their names."""

SCRUBBED_KEY = "$.context.credentials"

Documents = dict[str, list[dict[str, Any]]]

_TENANT = {"organisationId": ORGANISATION_ID, "projectId": PROJECT_ID}
_PIPELINE = {**_TENANT, "pipelineId": PIPELINE_ID}


def _random_secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class SampleSecrets:
    """The secrets of one run, random and masked in its repr."""

    sec_db: str = field(default_factory=_random_secret, repr=False)
    sec_global: str = field(default_factory=_random_secret, repr=False)
    nonce_value: str = field(default_factory=_random_secret, repr=False)
    slack_token: str = field(default_factory=lambda: f"xoxb-{_random_secret()}", repr=False)
    webhook_token: str = field(default_factory=_random_secret, repr=False)


def sample_documents(keys: SampleSecrets, archive_url: str) -> Documents:
    """All documents by collection. Errors go to Slack, tagged and scrubbed; the rest but DEBUG to `archive_url`."""
    return {
        "Organisations": [
            {
                "organisationId": ORGANISATION_ID,
                "organisationName": "Acme",
                "organisationSecretEncrypted": seal(_random_secret(), keys.sec_db),
            }
        ],
        "Projects": [
            {**_TENANT, "projectName": "Web shop", "projectSecretEncrypted": seal(_random_secret(), keys.sec_db)}
        ],
        "Pipelines": [
            {
                **_PIPELINE,
                "pipelineName": "Errors to Slack, the rest to the archive",
                "pipelineCode": PIPELINE_ID,
                "active": True,
                "startNodeId": "branch",
            }
        ],
        "PipelineNodes": [{**_PIPELINE, "nodeId": key, "nodeConfig": value} for key, value in sample_nodes().items()],
        "IntegrationConnectors": _connectors(keys, archive_url),
        "IntegrationTargets": _targets(),
    }


def sample_nodes() -> dict[str, dict[str, Any]]:
    """The pipeline's nodes by their ids."""
    return {
        "branch": {
            "name": "by level",
            "type": "condition-branching",
            "filters": {
                "errors": {"filter": {"or": [_level("et", "ERROR"), _level("et", "CRITICAL")]}, "next": ["tag"]},
                "rest": {
                    "filter": {"and": [_level("ne", level) for level in ("ERROR", "CRITICAL", "DEBUG")]},
                    "next": [ARCHIVE],
                },
            },
        },
        "tag": {
            "name": "tag errors",
            "type": "transformation",
            "transformation_fn": "JSON.add_key",
            "transformation_params": {"key": "$.alert.severity", "value": "high"},
            "next": ["scrub"],
        },
        "scrub": {
            "name": "scrub errors",
            "type": "transformation",
            "transformation_fn": "JSON.remove_key",
            "transformation_params": {"key": SCRUBBED_KEY},
            "next": [ALERTS],
        },
        ALERTS: {"name": "alerts", "type": "end", "target_id": ALERTS},
        ARCHIVE: {"name": "archive", "type": "end", "target_id": ARCHIVE},
    }


def _level(operator: str, value: str) -> dict[str, Any]:
    return {"check": {"key": "$.level", "operator": operator, "value": value}}


def _connectors(keys: SampleSecrets, archive_url: str) -> list[dict[str, Any]]:
    slack = {"slackBotToken": keys.slack_token}
    webhook = {"url": archive_url, "headers": {"Authorization": f"Bearer {keys.webhook_token}"}}
    return [
        {
            **_TENANT,
            "connectorId": f"{integration_type}-connector",
            "connectorName": f"the shop's {integration_type}",
            "integrationType": integration_type,
            "encryptedCredentials": seal(json.dumps(credentials), keys.sec_db),
        }
        for integration_type, credentials in (("slack", slack), ("webhook", webhook))
    ]


def _targets() -> list[dict[str, Any]]:
    return [
        {
            **_PIPELINE,
            "targetId": ALERTS,
            "connectorId": "slack-connector",
            "destinationName": ALERTS,
            "destinationParams": {
                "action": "template-message",
                "channel": "#alerts",
                "template": (
                    "*{{ $.level }}* (severity {{ $.alert.severity }}) {{ $.service }}: {{ $.message }}\n"
                    "{{ $.context }}\n"
                    "message {{ $.messageId }}"
                ),
            },
        },
        {
            **_PIPELINE,
            "targetId": ARCHIVE,
            "connectorId": "webhook-connector",
            "destinationName": ARCHIVE,
            "destinationParams": {"method": "POST"},
        },
    ]


async def store_documents(mongo_url: str, documents: Documents) -> None:
    """Insert documents into the sample's database."""
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        for collection, members in documents.items():
            await client[DATABASE][collection].insert_many(members)
