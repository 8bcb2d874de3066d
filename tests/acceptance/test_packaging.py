"""The distribution: what the wheel holds, and that it works alone in an empty environment."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("workers", "workflows", "activities", "cache")
IMPORT_EVERYTHING = f"""
import importlib, pkgutil
for package in map(importlib.import_module, {PACKAGES}):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            print(module.name)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and return what it printed; its errors are shown where it fails."""
    result = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, as a release is."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with the wheel and what it requires alone; the package index is asked for that."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    commands = folder / "bin"
    pip = [sys.executable, "-m", "pip", "--python", commands / "python", "install", "-qq", "--no-compile"]
    run(*pip, "--disable-pip-version-check", "--constraint", ROOT / "constraints.txt", wheel, cwd=folder)
    return commands


def source_files() -> set[str]:
    """Every file of the four packages, data included."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {name for name in names if ".dist-info/" not in name}
    assert packaged == source_files()
    assert {f"{package}/py.typed" for package in PACKAGES} <= packaged
    assert {name.partition("/")[0] for name in packaged} == set(PACKAGES)


def test_the_wheel_carries_the_sample_records_and_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("workers/") and name.endswith(".jsonl") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.mark.timeout(300)
def test_the_command_answers_in_an_empty_environment(environment: Path, tmp_path: Path) -> None:
    help_text = run(environment / "datanadhi-worker", "--help", cwd=tmp_path)
    for command in ("run", "demo", "dev"):
        assert command in help_text
    assert run(environment / "datanadhi-worker", "version", cwd=tmp_path).strip()


@pytest.mark.timeout(300)
def test_every_module_can_be_imported_without_any_extra(environment: Path, tmp_path: Path) -> None:
    """Also not with the embedded servers, of which one must never be imported."""
    imported = run(environment / "python", "-c", IMPORT_EVERYTHING, cwd=tmp_path).split()
    assert {"workers.cli", "workers.settings", "workflows.main", "activities.contracts", "cache.keys"} <= set(imported)
