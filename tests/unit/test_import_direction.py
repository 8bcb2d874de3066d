"""Imports point one way: workers, workflows, activities, cache; and the pipeline engine is pure."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("workers", "workflows", "activities", "cache")
ENGINE = "activities.pipeline"
INPUT_AND_OUTPUT = {
    "asyncio", "builtins", "ctypes", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "shutil",
    "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "urllib",
}  # fmt: skip
"""Modules of the standard library by which an engine would touch the world. Its deadline is measured with `time`."""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Hold the packages in a folder to the contracts of the pyproject.toml beside them."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copied_packages(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("cache/__init__.py", "import activities.errors"),
        ("activities/__init__.py", "import workflows.policies"),
        ("workflows/__init__.py", "import workers.settings"),
        ("activities/pipeline/__init__.py", "import aiohttp"),
        ("activities/pipeline/__init__.py", "import cache"),
        ("workers/embedded/__init__.py", "import secantus"),
    ],
)
def test_an_import_against_the_direction_breaks_them(module: str, statement: str, copied_packages: Path) -> None:
    with (copied_packages / module).open("a") as file:
        file.write(f"\n{statement}\n")
    result = lint(copied_packages)
    assert result.returncode == 1
    assert "1 broken" in result.stdout, result.stdout + result.stderr


def test_the_engine_imports_itself_and_what_computes() -> None:
    """Nothing of ours, no package from elsewhere, nothing that reads, writes or guesses."""
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    allowed = sys.stdlib_module_names - INPUT_AND_OUTPUT
    modules = {ENGINE, *graph.find_descendants(ENGINE)}
    imported = {name for module in modules for name in graph.find_modules_directly_imported_by(module)}
    assert len(modules) > 1
    assert imported - modules - allowed == set()
