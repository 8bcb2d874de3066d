r"""Templates: text in which `{{ $.path }}` stands for a value of a record and `\$` for a dollar sign.

A text is put in as it is, anything else as JSON. A placeholder whose path is missing or null, or is no path at all,
is left as it stands. What was put in is never looked at again. A path in a template cannot contain braces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from activities.pipeline.errors import PathError, TemplateError, quote
from activities.pipeline.limits import MAX_RENDERED_CHARACTERS
from activities.pipeline.paths import Path, compile_path
from activities.pipeline.values import Record, kind_of

_COMPILED_TEMPLATES = 256

# Possessive, and no brace inside: a failed attempt reads up to the next brace and no character is read twice.
_PLACEHOLDER = re.compile(r"\{\{\s*+(?P<path>\$[.\[][^{}]*+)\}\}|(?P<dollar>\\\$)")

_encode = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class _Placeholder:
    text: str
    path: Path


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template: text and placeholders, in order."""

    parts: tuple[str | _Placeholder, ...]

    def render(self, record: Record) -> str:
        """The template's text with the record's values in it.

        A lone surrogate in the record is one in the text: encode with that in mind.

        Raises:
            TemplateError: A value cannot be written as JSON, or the text exceeds `MAX_RENDERED_CHARACTERS`.
        """
        rendered: list[str] = []
        length = 0
        for part in self.parts:
            text = part if isinstance(part, str) else _value(part, record)
            length += len(text)
            if length > MAX_RENDERED_CHARACTERS:
                raise TemplateError(f"the text exceeds {MAX_RENDERED_CHARACTERS} characters")
            rendered.append(text)
        return "".join(rendered)


def compile_template(text: Any) -> Template:
    """Compile a template; the most recent ones are remembered.

    Raises:
        TemplateError: It is no text.
    """
    if not isinstance(text, str):
        raise TemplateError(f"a template is a text, not {kind_of(text)}")
    return _compiled(text)


@lru_cache(maxsize=_COMPILED_TEMPLATES)
def _compiled(text: str) -> Template:
    return Template(tuple(part for part in _parts(text) if part))


def _parts(text: str) -> Iterator[str | _Placeholder]:
    end = 0
    for found in _PLACEHOLDER.finditer(text):
        yield text[end : found.start()]
        yield "$" if found["dollar"] else _placeholder(found[0], found["path"].rstrip())
        end = found.end()
    yield text[end:]


def _placeholder(text: str, path: str) -> str | _Placeholder:
    try:
        return _Placeholder(text, compile_path(path))
    except PathError:
        return text


def _value(placeholder: _Placeholder, record: Record) -> str:
    value = placeholder.path.get(record, None)
    if value is None:
        return placeholder.text
    if isinstance(value, str):
        return value
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError):
        # No JSON type, an integer of more digits than Python writes, or nested too deeply; `from None` because
        # their messages may hold the value.
        raise TemplateError(f"the value at {quote(placeholder.path.text)} cannot be written as JSON") from None
