"""The demo: the embedded stack with a sample pipeline, records sent through it, and an account of every one."""
