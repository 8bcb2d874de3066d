"""The command line of the cache: `datanadhi-worker cache stats | get | invalidate | warm`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from workers.command_settings import read_settings

app = typer.Typer(help="Look into the cache, empty parts of it, fill it.", no_args_is_help=True)
invalidation = typer.Typer(
    help="Delete what is cached about a level, and all below it; MongoDB is not touched.", no_args_is_help=True
)
app.add_typer(invalidation, name="invalidate")

OrganisationId = Annotated[str, typer.Argument(metavar="ORG", show_default=False)]
ProjectId = Annotated[str, typer.Argument(metavar="PROJECT", show_default=False)]
PipelineId = Annotated[str, typer.Argument(metavar="PIPELINE", show_default=False)]


@app.command()
def stats() -> None:
    """Say whether Redis answers, what it uses, and how many keys of each family it holds for how long."""
    from workers.cache_inspection import show_stats  # noqa: PLC0415 - --help answers before the clients are imported

    raise typer.Exit(asyncio.run(show_stats(read_settings())))


@app.command()
def get(key: Annotated[str, typer.Argument(metavar="KEY", help="With the prefix or without.")]) -> None:
    """Print a cached document and its TTL; secrets are masked."""
    from workers.cache_inspection import show_value  # noqa: PLC0415 - as above

    raise typer.Exit(asyncio.run(show_value(read_settings(), key)))


@app.command()
def warm(
    pipeline: Annotated[
        tuple[str, str, str], typer.Option(metavar="ORG PROJECT PIPELINE", help="Which.", show_default=False)
    ],
) -> None:
    """Read a pipeline, its nodes, its targets and their connectors, so that they are in Redis."""
    from workers.cache_upkeep import warm_pipeline  # noqa: PLC0415 - as above

    raise typer.Exit(asyncio.run(warm_pipeline(read_settings(), *pipeline)))


@invalidation.command()
def organisation(organisation_id: OrganisationId) -> None:
    """An organisation, its secret, and everything of its projects."""
    _invalidate("organisation", organisation_id)


@invalidation.command()
def project(organisation_id: OrganisationId, project_id: ProjectId) -> None:
    """A project, its secret, and all its pipelines and connectors."""
    _invalidate("project", organisation_id, project_id)


@invalidation.command()
def pipeline(organisation_id: OrganisationId, project_id: ProjectId, pipeline_id: PipelineId) -> None:
    """A pipeline, its nodes and its targets."""
    _invalidate("pipeline", organisation_id, project_id, pipeline_id)


@invalidation.command()
def workflow(organisation_id: OrganisationId, project_id: ProjectId, pipeline_id: PipelineId) -> None:
    """A pipeline's nodes."""
    _invalidate("workflow", organisation_id, project_id, pipeline_id)


@invalidation.command()
def target(
    organisation_id: OrganisationId,
    project_id: ProjectId,
    pipeline_id: PipelineId,
    target_id: Annotated[str, typer.Argument(metavar="TARGET", show_default=False)],
) -> None:
    """A target."""
    _invalidate("target", organisation_id, project_id, pipeline_id, target_id)


@invalidation.command()
def connector(
    organisation_id: OrganisationId,
    project_id: ProjectId,
    connector_id: Annotated[str, typer.Argument(metavar="CONNECTOR", show_default=False)],
) -> None:
    """A connector, as stored and with its credentials."""
    _invalidate("connector", organisation_id, project_id, connector_id)


def _invalidate(level: str, *identifiers: str) -> None:
    from workers.cache_upkeep import invalidate  # noqa: PLC0415 - as above

    raise typer.Exit(asyncio.run(invalidate(read_settings(), level, identifiers)))
