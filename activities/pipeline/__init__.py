"""The pipeline engine: pure functions from a record and its pipeline's nodes to deliveries and failures."""
