"""The shape of the tree, where it can be checked."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("service", "bridge", "gateway", "devstack", "clients/python")
LONGEST_FILE, LONGEST_FUNCTION = 350, 45
NAMES_OF_NOTHING = {"utils", "util", "helpers", "common", "manager", "misc"}


def tracked(pattern: str) -> list[Path]:
    """Files under version control, or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def sources() -> Iterator[Path]:
    for folder in PRODUCT:
        yield from tracked(f"{folder}/*.py")


def test_every_top_level_package_is_under_import_contracts() -> None:
    packages = {path.parent.name for path in tracked("*/__init__.py") if path.parent.parent == ROOT}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert packages - {"tests"} == set(contracts["root_packages"])


def test_every_part_of_the_service_has_its_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    listed = {name.strip() for layer in layers for name in layer.split("|")}
    parts = {
        f"service.{path.stem if path.is_file() else path.name}"
        for path in (ROOT / "service").iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
    }
    assert parts <= listed, parts - listed


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_file_is_one_readable_room(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    assert path.stem not in NAMES_OF_NOTHING
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says what it is for"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= LONGEST_FUNCTION, node.name


@pytest.mark.parametrize("package", ["service", "bridge", "gateway"])
def test_the_environment_is_read_in_settings_only(package: str) -> None:
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in tracked(f"{package}/*.py")
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    assert readers <= {f"{package}/settings.py"}


def test_architecture_fits_on_a_few_pages() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 150


def test_no_lock_file_names_a_registry() -> None:
    locks = [*tracked("requirements*.lock"), *tracked("*package-lock.json")]
    assert locks
    for lock in locks:
        text = lock.read_text()
        assert "--index-url" not in text
        assert "--find-links" not in text
        # npm's "url" fields name funding pages, not registries.
        assert not re.search(r'"resolved": "[a-z+]+://', text)
        if lock.suffix == ".lock":
            assert "://" not in text
