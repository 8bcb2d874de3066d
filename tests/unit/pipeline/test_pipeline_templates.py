"""Templates: what is replaced, what is left, and what hostile ones cost."""

from __future__ import annotations

from typing import Any

import pytest

from activities.pipeline import TemplateError, compile_template

RECORD = {
    "text": "hi",
    "number": 1.5,
    "yes": True,
    "nothing": None,
    "zero": 0,
    "empty": "",
    "user": {"name": "Zoë", "tags": ["a", 1]},
    "odd.key": "odd",
    "sly": r"{{ $.text }} \$",
    "a b": "spaced",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{{ $.text }}", "hi"),
        ("{{$.text}}", "hi"),
        ("{{ \n\t $.text   }}", "hi"),
        ("<{{ $.number }}|{{ $.yes }}|{{ $.zero }}>", "<1.5|true|0>"),
        ("{{ $.empty }}", ""),
        ("{{ $.user }}", '{"name": "Zoë", "tags": ["a", 1]}'),
        ("{{ $.user.tags[0] }}{{ $.user.tags[-1] }}", "a1"),
        ("{{ $['odd.key'] }}", "odd"),
        ("{{ $.a b }}", "spaced"),
        ("{{ $.nothing }} {{  $.missing}} {{ $.text.deeper }}", "{{ $.nothing }} {{  $.missing}} {{ $.text.deeper }}"),
        ("{{ text }} {{ }} {{ $ }} {{ $..a }} {{ $.a[ }}", "{{ text }} {{ }} {{ $ }} {{ $..a }} {{ $.a[ }}"),
        (r"\$5 costs \$", "$5 costs $"),
        (r"\\$ and \n $", r"\$ and \n $"),
        (r"{{ \$.text }}", "{{ $.text }}"),
        ("{{ $.sly }}", r"{{ $.text }} \$"),
        ('{"a":{{ $.number }}}', '{"a":1.5}'),
        ("{{{ $.text }}}", "{hi}"),
        ("{{ foo {{ $.text }} }}", "{{ foo hi }}"),
        ("{{ $.text", "{{ $.text"),
        ("{ { $.text } }", "{ { $.text } }"),
        ("{{ $.text }}{{ $.text }}", "hihi"),
    ],
)
def test_a_template_renders(template: str, text: str) -> None:
    assert compile_template(template).render(RECORD) == text


def test_a_template_is_compiled_once() -> None:
    assert compile_template("{{ $.compiled.once }}") is compile_template("{{ $.compiled.once }}")


@pytest.mark.parametrize("template", [None, 1, {"a": 1}, ["{{ $.a }}"], b"{{ $.a }}"])
def test_a_template_that_is_no_text_is_refused(template: Any) -> None:
    with pytest.raises(TemplateError, match="a template is a text"):
        compile_template(template)


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [nested(10_000), 10**5000, {1, 2}], ids=["deep", "huge", "no JSON"])
def test_a_value_that_json_cannot_hold_fails_without_being_shown(value: Any) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_template("{{ $.a }}").render({"a": value})

    assert str(caught.value) == "the value at '$.a' cannot be written as JSON"
    assert caught.value.__suppress_context__


def test_a_lone_surrogate_passes_through() -> None:
    assert compile_template("<{{ $.a }}>{{ $.b }}").render({"a": "\ud800", "b": ["\udfff"]}) == '<\ud800>["\udfff"]'


def test_a_template_cannot_multiply_a_long_field_beyond_the_bound() -> None:
    with pytest.raises(TemplateError, match="exceeds 4194304 characters"):
        compile_template("{{ $.a }}" * 10_000).render({"a": "x" * 1_000_000})


@pytest.mark.parametrize(
    "piece", ["{", "{{", "{{ ", "{{ $.", "{{ $.a", "{{ $.a }", "{{ $['", "\\", r"{{ \$", "}}", "{{ $." + "a" * 50]
)
def test_a_hostile_template_is_read_in_linear_time(piece: str) -> None:
    """Quadratic reading of two million characters would outlast the test's timeout."""
    text = piece * (2_000_000 // len(piece))

    assert compile_template(text).render({}) == text.replace(r"\$", "$")
    assert compile_template("{{" + " " * 2_000_000).render({}).startswith("{{ ")
