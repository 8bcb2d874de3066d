"""The cache: one Redis client per process that fails silently to MongoDB, and all that is read through it."""
