"""The workflow a message runs as, and the policies it runs under."""
