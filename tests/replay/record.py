"""Records the histories that test_replay.py replays: run it when the workflow's commands are meant to change."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from activities.data_converter import DATA_CONVERTER
from tests.harness import Platform, start, worker_parts
from workers.embedded.receiver import Receiver
from workers.embedded.servers import executable, running, start_mongodb, start_valkey
from workers.settings import Settings

FOLDER = Path(__file__).parent / "histories"
PLATFORM = Path(__file__).parents[1] / "data" / "contract" / "platform.json"
ERROR = {"level": "ERROR", "message": "payment declined", "attempt": 3}


def arguments(platform: Platform) -> dict[str, Any]:
    """A message for every outcome."""
    return {
        "delivered": platform.message(log_data=ERROR),
        "failing": platform.message(log_data={**ERROR, "attempt": "three"}),
        "batch": platform.message(log_batch=[ERROR, {"audit": True}, "no object", {"level": "INFO"}]),
        "refused": {"metadata": {}, "log_data": {}},
    }


async def record(client: Client, platform: Platform) -> None:
    """Run every message and save its history."""
    for name, argument in arguments(platform).items():
        handle = await start(client, argument)
        await handle.result()
        history = json.loads((await handle.fetch_history()).to_json())
        await asyncio.to_thread((FOLDER / f"{name}.json").write_text, json.dumps(history, indent=1) + "\n")


async def main() -> None:
    """Start everything, record, stop."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            running(start_valkey(folder / "valkey")) as valkey,
            running(start_mongodb(folder / "mongodb")) as mongodb,
            Receiver() as receiver,
            await WorkflowEnvironment.start_time_skipping(
                test_server_existing_path=executable("temporal-test-server"), data_converter=DATA_CONVERTER
            ) as temporal,
        ):
            data = json.loads(await asyncio.to_thread(PLATFORM.read_text))
            platform = Platform(data, f"mongodb://{mongodb.address}/?directConnection=true", "recording")
            await platform.store()
            settings = Settings.model_validate(
                {
                    "mongo_url": platform.url,
                    "mongo_database": platform.database,
                    "redis_url": f"redis://{valkey.address}/0",
                    "sec_db": data["env"]["SEC_DB"],
                    "slack_api_url": receiver.slack_api_url,
                    "failure_store_url": (folder / "failures").as_uri(),
                }
            )
            async with worker_parts(temporal.client, settings):
                await record(temporal.client, platform)


if __name__ == "__main__":
    asyncio.run(main())
