"""Each `bentofile.yaml` names the code that its service imports, and the packages are those of the locks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from packaging.utils import canonicalize_name

from bentos.build import NAMES, ROOT, carried, digest
from components.config.document import read_yaml, write_yaml

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
    return pins("\n".join(read_yaml(ROOT / "bentos" / name / "bentofile.yaml")["python"]["packages"]))


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
    assert ("openvino" in declared) == (name in ("text", "image"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what Bentos are built from, and of the benchmarks, which they are not."""
    for folder in (*OURS, "tests/bench"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "base"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def test_20_a_bento_is_built_in_a_project_below_a_hidden_folder(tree: Path, tmp_path: Path) -> None:
    """As the proof's workspace lies below `.atelier`."""
    project = tmp_path / ".hidden" / "project"
    project.mkdir(parents=True)
    for folder in (*OURS, "params.yaml"):
        (tree / folder).rename(project / folder)
    command = ["bentoml", "build", "-f", "bentos/gateway/bentofile.yaml", "--version", "v1", "."]
    environment = os.environ | {"BENTOML_HOME": str(tmp_path / "store")}
    ended = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    installed = (tmp_path / "store/bentos/atelier-gateway/v1/env/python/requirements.txt").read_text()
    assert requirements("gateway").items() <= pins(installed).items()


def changed(tree: Path, path: str, key: str = "", value: object = None) -> set[str]:
    """The Bentos that a change of a file, or of a parameter, gives another digest."""
    before = {name: digest(name, tree) for name in NAMES}
    if key:
        document = read_yaml(tree / path)
        namespace, _, name = key.partition(".")
        document[namespace][name] = value
        write_yaml(tree / path, document)
    else:
        with (tree / path).open("a") as file:
            file.write("\n")
    return {name for name in NAMES if digest(name, tree) != before[name]}


def test_21_a_bento_is_built_anew_for_what_it_carries_and_for_nothing_else(tree: Path) -> None:
    assert {len(digest(name, tree)) for name in NAMES} == {12}
    assert changed(tree, "components/experiments/plan.py") == set()
    assert changed(tree, "components/training/text.py") == changed(tree, "monitoring/drift.py") == set()
    assert changed(tree, "bentos/gateway/admission.py") == {"gateway"}
    assert changed(tree, "components/events/migrations/versions/r0001_events.py") == {"gateway"}
    assert changed(tree, "components/runtimes/openvino.py") == changed(tree, "bentos/image/bentofile.yaml") == {"image"}
    assert changed(tree, "components/runtimes/endpoint.py") == {"endpoint"}
    assert changed(tree, "bentos/writing.py") == {"text", "endpoint"}
    assert changed(tree, "components/artifact.py") == set(NAMES)


def test_21_a_parameter_that_a_bento_serves_with_builds_it_anew_and_no_other_does(tree: Path) -> None:
    assert changed(tree, "params.yaml", "serving.text_temperature", 0.5) == set(NAMES)
    assert changed(tree, "params.yaml", "feedback.max_age_days", 1.0) == {"gateway"}
    assert changed(tree, "params.yaml", "audience.users", 7) == changed(tree, "params.yaml", "monitor.keep", 1) == set()


@pytest.mark.parametrize("name", NAMES)
def test_21_the_digest_counts_each_namespace_of_parameters_that_the_code_reads(name: str) -> None:
    code = "".join(file.read_text() for file in carried(name) if file.is_relative_to(ROOT / "bentos"))
    assert set(re.findall(r"(?:\bPARAMS|\bload\(\))\.(\w+)", code)) == set(NAMES[name])
