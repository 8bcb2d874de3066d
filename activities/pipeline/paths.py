"""Paths into a record: `$.user.id`, `$.items[0].price`, `$.items[-1]`, `$['odd.key']`, or a top-level field's name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from activities.pipeline.errors import PathError, quote
from activities.pipeline.limits import MAX_DEPTH
from activities.pipeline.values import Record

Step = str | int
"""A field of an object by its name, or an item of an array by its position (negative: from the end)."""

_STEP = re.compile(
    r"""
      \.(?P<name>[^.\[\]]++)
    | \[(?P<index>-?[0-9]{1,9})\]
    | \['(?P<single>[^'\\]*+(?:\\.[^'\\]*+)*)'\]
    | \["(?P<double>[^"\\]*+(?:\\.[^"\\]*+)*)"\]
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class _Missing:
    """What a path leads to where there is nothing."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()
"""Nothing is there; not the same as null, although conditions take it for null."""


def is_path(text: Any) -> bool:
    """Whether a value is written as a path, `$.` or `$[` and so on, rather than as a name or a literal."""
    return isinstance(text, str) and text.startswith(("$.", "$["))


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled path.

    Attributes:
        text: The path as it was written.
        steps: How to walk from the record to the value; at least one, and the first is a name.
    """

    text: str
    steps: tuple[Step, ...]

    def get(self, record: Any, default: Any = MISSING) -> Any:
        """The value in the record, or `default` where there is none.

        A name is looked up in objects alone and a position in arrays alone.
        """
        value = record
        for step in self.steps:
            if isinstance(step, str):
                if not isinstance(value, dict) or step not in value:
                    return default
            elif not isinstance(value, list) or not -len(value) <= step < len(value):
                return default
            value = value[step]
        return value

    def set(self, record: Record, value: Any) -> Record:
        """A record that has the value at the path and shares all else with the given one, which stays as it is.

        Parents that are missing, or of another kind than the path needs, are made anew. A position one behind an
        array's last item appends.

        Raises:
            PathError: A position lies outside its array.
        """
        changed: Record = _own(record, self.steps[0])
        parent: Any = changed
        for step, following in pairwise(self.steps):
            child = _own(_child(parent, step), following)
            self._put(parent, step, child)
            parent = child
        self._put(parent, self.steps[-1], value)
        return changed

    def remove(self, record: Record) -> Record:
        """A record without what the path leads to, sharing all else; the given one where it leads to nothing."""
        if self.get(record) is MISSING:
            return record
        changed: Record = _own(record, self.steps[0])
        parent: Any = changed
        for step, following in pairwise(self.steps):
            parent[step] = _own(parent[step], following)
            parent = parent[step]
        del parent[self.steps[-1]]
        return changed

    def _put(self, parent: Any, step: Step, value: Any) -> None:
        if isinstance(step, str) or -len(parent) <= step < len(parent):
            parent[step] = value
        elif step == len(parent):
            parent.append(value)
        else:
            raise PathError(f"position {step} of path {quote(self.text)} lies outside the array")


def compile_path(text: Any) -> Path:
    """Compile a path; text that does not start with `$.` or `$[` is the name of a top-level field.

    In quotes a backslash stands for the character after it.

    Raises:
        PathError: It is no text or empty, malformed, or longer than records are deep.
    """
    if not isinstance(text, str) or not text:
        raise PathError("a path is a text that is not empty")
    steps: tuple[Step, ...] = tuple(_steps(text)) if is_path(text) else (text,)
    if not isinstance(steps[0], str):
        raise PathError(f"path {quote(text)} starts with a position, but a record is an object")
    if len(steps) > MAX_DEPTH:
        raise PathError(f"path {quote(text)} has more than {MAX_DEPTH} steps")
    return Path(text, steps)


def _steps(text: str) -> Iterator[Step]:
    position = len("$")
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None:
            raise PathError(f"path {quote(text)} is malformed at character {position}")
        position = found.end()
        kind = found.lastgroup
        if kind == "index":
            yield int(found["index"])
        elif kind == "name":
            yield found["name"]
        else:
            yield _ESCAPED.sub(r"\1", found[kind or 0])


def _own(value: Any, step: Step) -> Any:
    """A shallow copy of a parent that the step can be taken in; an empty one where the value is of another kind."""
    if isinstance(step, str):
        return dict(value) if isinstance(value, dict) else {}
    return list(value) if isinstance(value, list) else []


def _child(parent: Any, step: Step) -> Any:
    try:
        return parent[step]
    except (KeyError, IndexError):
        return None
