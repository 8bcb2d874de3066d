"""The workflow that does nothing: what Temporal itself costs on a machine."""

from temporalio import workflow


@workflow.defn
class EmptyWorkflow:
    """Completes at once."""

    @workflow.run
    async def run(self) -> None:
        """Do nothing."""
