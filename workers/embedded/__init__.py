"""The embedded development stack: real servers from wheels, on loopback, in a temporary folder."""
