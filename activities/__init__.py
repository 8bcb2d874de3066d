"""What the workflow calls: look-ups, the pipeline engine, deliveries and the failure store."""
