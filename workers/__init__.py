"""The worker process: settings, command line, roles, health, telemetry and the embedded development stack."""
