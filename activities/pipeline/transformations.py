"""Transformations: named functions that make one record from another. Adding one is adding a function to this file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from activities.pipeline.errors import InvalidNodeError, quote
from activities.pipeline.limits import MAX_DEPTH
from activities.pipeline.paths import compile_path
from activities.pipeline.values import Record, kind_of, require_bounded

Parameters = dict[str, Any]

Transformation = Callable[[Record], Record]
"""Makes a record from another and leaves that one as it is; raises a `PipelineError` where it cannot."""

Compiler = Callable[[Parameters], Transformation]
"""Makes a transformation from its parameters; raises a `PipelineError` where they do not serve."""

TRANSFORMATIONS: dict[str, Compiler] = {}
"""Every transformation by its name, such as `JSON.add_key`."""

_OPTIONAL_PREFIX = "Transformation."


def transformation(name: str) -> Callable[[Compiler], Compiler]:
    """Register a function that makes transformations from parameters, under the name that nodes call it by."""

    def register(compiler: Compiler) -> Compiler:
        TRANSFORMATIONS[name] = compiler
        return compiler

    return register


def compile_transformation(name: Any, parameters: Any) -> Transformation:
    """Look a transformation up and give it its parameters; `Transformation.JSON.x` and `JSON.x` name the same.

    Raises:
        InvalidNodeError: There is none of that name, or a parameter is missing.
        PipelineError: A parameter does not serve.
    """
    compiler = TRANSFORMATIONS.get(name.removeprefix(_OPTIONAL_PREFIX)) if isinstance(name, str) else None
    if compiler is None:
        raise InvalidNodeError(f"unknown transformation {quote(name)}")
    if not isinstance(parameters, dict):
        raise InvalidNodeError(f"the parameters are no object but {kind_of(parameters)}")
    return compiler(parameters)


def required(parameters: Parameters, name: str) -> Any:
    """A parameter that must be given, though it may be null.

    Raises:
        InvalidNodeError: It is missing.
    """
    if name not in parameters:
        raise InvalidNodeError(f"parameter {quote(name)} is missing")
    return parameters[name]


@transformation("JSON.add_key")
def add_key(parameters: Parameters) -> Transformation:
    """Set `key` (a path) to `value`, taken literally; parents that are missing or no objects are made."""
    path = compile_path(required(parameters, "key"))
    value = required(parameters, "value")
    require_bounded(value, max_depth=MAX_DEPTH - len(path.steps))
    return lambda record: path.set(record, value)


@transformation("JSON.remove_key")
def remove_key(parameters: Parameters) -> Transformation:
    """Remove `key` (a path); a record without it stays as it is."""
    return compile_path(required(parameters, "key")).remove
