"""Each `bentofile.yaml` names the code that its service imports, and the packages are those of the locks."""

from __future__ import annotations

import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from packaging.utils import canonicalize_name

from bentos.build import NAMES, ROOT, carried

OURS = ("bentos", "components", "monitoring")
REFERENCE = "components.runtimes.pytorch"  # served from the tree alone: a Bento's image has no PyTorch


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    graph = grimp.build_graph(*OURS, include_external_packages=True, cache_dir=None)
    graph.remove_module(REFERENCE)
    return graph


def imports(graph: grimp.ImportGraph, name: str) -> set[str]:
    """The service's module and all that it imports, with the packages that they lie in."""
    waiting, found = {f"bentos.{name}.service"}, set[str]()
    while waiting:
        module = waiting.pop()
        found.add(module)
        parent = module.rpartition(".")[0]
        waiting |= ({parent} - {""} | graph.find_upstream_modules(module)) - found
    return found


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[\w+\])?==([\w.+]+)", text, re.MULTILINE))


def requirements(name: str) -> dict[str, str]:
    return pins((ROOT / "bentos" / name / "requirements.txt").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_20_a_bento_carries_the_code_that_it_imports_and_no_other(graph: grimp.ImportGraph, name: str) -> None:
    paths = {Path(*module.split(".")) for module in imports(graph, name) if module.split(".")[0] in OURS}
    imported = {path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py") for path in paths}
    files = {str(file.relative_to(ROOT)) for file in carried(name)} - {"params.yaml"}
    migrations = {file for file in files if file.startswith("components/events/migrations/")}  # Alembic loads them
    assert files - migrations == {str(path) for path in imported}
    assert bool(migrations) == ("components.events.database" in imports(graph, name))


@pytest.mark.parametrize("name", NAMES)
def test_20_a_bento_declares_the_packages_that_it_imports_as_they_are_locked(
    graph: grimp.ImportGraph, name: str
) -> None:
    declared = requirements(name)
    modules = {module.split(".")[0] for module in imports(graph, name)} - {*OURS, *sys.stdlib_module_names}
    distributions = {module: {canonicalize_name(d) for d in packages_distributions()[module]} for module in modules}
    assert {module for module, names in distributions.items() if not names & declared.keys()} == set()
    locked = pins((ROOT / "infra/locks/cpu.txt").read_text())
    assert declared.items() <= locked.items()
    assert "torch" not in declared
