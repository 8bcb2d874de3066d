"""The bounds within which a record is processed; passing one is a recorded failure, never a hang."""

from __future__ import annotations

MAX_NODE_VISITS = 10_000
"""Nodes that one record may visit. A chain of n diamonds makes 2^n visits of its end; a cycle, endlessly many."""

MAX_COPIED_VALUES = 10_000_000
"""Values in a record times nodes that it visits, each of which may copy it: the largest records visit 100 nodes."""

MAX_OUTCOMES = 1_000
"""Deliveries and failures, together, that one record may lead to: each is a request to somewhere else."""

MAX_SECONDS = 0.5
"""How long one record may take; looked at before every node. Records take microseconds, so this stops a hostile
pipeline (many nodes visited, each with a thousand filters) and nothing else."""

MAX_DEPTH = 100
"""Objects and arrays within one another, in a record and in a value that a pipeline adds to it."""

MAX_VALUES = 100_000
"""Fields of objects and items of arrays in a record, all levels together: a transformation may copy them."""

MAX_CONDITION_DEPTH = 50
"""Conditions within one another: they are evaluated by recursion."""

MAX_RENDERED_CHARACTERS = 4 * 1024 * 1024
"""Length of what a template may render to: a short template can repeat a long field a thousand times."""
