"""Rules of the repository that no linter knows: first lines, where things may stand, and what the pins cover."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ("workers", "workflows", "activities", "cache")
PYPROJECT = (ROOT / "pyproject.toml").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()

READS_THE_ENVIRONMENT = {"workers/settings.py"}
HANDS_THE_ENVIRONMENT_ON = {"workers/embedded/processes.py"}
"""Gives the servers it starts PATH and the like; it takes no setting from there."""


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


OUR_FILES = [relative(path) for path in python_files(*PACKAGES)]
ALL_FILES = [*OUR_FILES, *(relative(path) for path in python_files("tests", "benchmarks", "examples"))]


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_file_says_in_its_first_line_what_it_holds(name: str) -> None:
    source = (ROOT / name).read_text()
    lines = source.splitlines()
    # A script may be started by its own name.
    first = lines[1] if lines and lines[0].startswith("#!") else (lines or [""])[0]
    assert re.match(r'r?"""\S.{9,}', first), first
    assert ast.get_docstring(ast.parse(source))


def environment_reads(source: str) -> Iterator[str]:
    """Every way to get at the environment: `os.environ`, `os.getenv`, and the same imported by name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"}:
            yield ast.unparse(node)
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (alias.name for alias in node.names if alias.name.startswith(("environ", "getenv")))


@pytest.mark.parametrize("name", sorted(set(OUR_FILES) - READS_THE_ENVIRONMENT - HANDS_THE_ENVIRONMENT_ON))
def test_only_the_settings_read_the_environment(name: str) -> None:
    assert list(environment_reads((ROOT / name).read_text())) == []


def test_the_rule_sees_every_way_to_read_the_environment() -> None:
    assert list(environment_reads("import os\nos.environ['A']")) == ["os.environ"]
    assert list(environment_reads("import os as o\no.getenv('A')")) == ["o.getenv"]
    assert list(environment_reads("from os import environ")) == ["environ"]


def test_the_prefix_of_keys_stands_in_one_file() -> None:
    holders = {name for name in OUR_FILES if "datanadhiserver:" in (ROOT / name).read_text()}
    assert holders == {"cache/keys.py"}


def requirements() -> list[tuple[str, str]]:
    """Each line of pyproject.toml that names a dependency: the requirement and what stands behind it."""
    declared = tomllib.loads(PYPROJECT)["project"]
    groups = [declared["dependencies"], *declared["optional-dependencies"].values()]
    lines = PYPROJECT.splitlines()
    found = []
    for requirement in (each for group in groups for each in group):
        literal = f'"{requirement}",'
        line = next(line for line in lines if line.strip().startswith(literal))
        found.append((requirement, line.partition(literal)[2]))
    return [(requirement, rest) for requirement, rest in found if not requirement.startswith("datanadhi-worker")]


@pytest.mark.parametrize(("requirement", "rest"), requirements())
def test_a_dependency_comes_with_its_reason(requirement: str, rest: str) -> None:
    assert re.match(r"\s+# \S.{5,}", rest), requirement


def pins() -> dict[str, str]:
    lines = [line for line in CONSTRAINTS.splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


@pytest.mark.parametrize("requirement", [requirement for requirement, _ in requirements()])
def test_a_dependency_is_pinned_to_a_release_it_allows(requirement: str) -> None:
    """Otherwise `make constraints` has to be run."""
    wanted = Requirement(requirement)
    pinned = pins()[canonicalize_name(wanted.name)]
    assert wanted.specifier.contains(pinned, prereleases=True)


def test_constraints_are_names_and_versions_alone() -> None:
    for line in CONSTRAINTS.splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line


def test_a_release_has_notes() -> None:
    """The version of pyproject.toml is either described in the changelog or being worked on there."""
    version = tomllib.loads(PYPROJECT)["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in {"Unreleased", version}
