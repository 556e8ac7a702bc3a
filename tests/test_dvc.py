"""`dvc.yaml` names the code that each stage imports: no change of it passes unseen, and no other change re-runs it."""

from __future__ import annotations

import re
from pathlib import Path

import grimp
import pytest

from components.config.document import read_yaml

ROOT = Path(__file__).parent.parent
STAGES = {name: stage.get("do", stage) for name, stage in read_yaml(ROOT / "dvc.yaml")["stages"].items()}
# Imported by stages and declared by none.
PLUMBING = {
    "components/__init__.py": "calls the next two",
    "components/loopback.py": "keeps loopback off proxies",
    "components/telemetry.py": "keeps libraries from reporting on their use",
    "components/config": "types of parameters, which DVC tracks by their values",
    "components/paths.py": "names of places, which stand in dvc.yaml too",
    "components/errors.py": "a class without code",
    "components/stage.py": "a command's arguments and errors",
    "components/artifact.py": "writes and checks files and takes no part in what they hold; it refuses another layout",
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """The project's imports, those inside of functions too."""
    return grimp.build_graph("components", cache_dir=None)


def imports(graph: grimp.ImportGraph, stage: str) -> set[Path]:
    """The stage's module and all that it imports, each as a file; the package itself is imported with any of it."""
    (module,) = re.findall(r"^python -m ([\w.]+)", STAGES[stage]["cmd"])
    modules = {module, "components"}.union(*map(graph.find_upstream_modules, (module, "components")))
    paths = {Path(*name.split(".")) for name in modules}
    return {path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py") for path in paths}


def sources(dependency: str) -> set[Path]:
    """The Python files of a dependency in `dvc.yaml`."""
    path = ROOT / dependency
    return {file.relative_to(ROOT) for file in ([path] if path.suffix == ".py" else path.rglob("*.py"))}


def is_plumbing(file: Path) -> bool:
    return any(file.is_relative_to(name) for name in PLUMBING) or not (ROOT / file).stat().st_size


@pytest.mark.parametrize("stage", STAGES)
def test_19_a_stage_declares_the_code_that_it_imports_and_no_other(stage: str, graph: grimp.ImportGraph) -> None:
    code = [dependency for dependency in STAGES[stage]["deps"] if dependency.startswith("components/")]
    declared = set[Path]().union(*map(sources, code))
    imported = {file for file in imports(graph, stage) if not is_plumbing(file)}
    assert {str(file) for file in imported} == {str(file) for file in declared}


def test_19_what_no_stage_declares_is_imported_by_stages(graph: grimp.ImportGraph) -> None:
    imported = set[Path]().union(*(imports(graph, stage) for stage in STAGES))
    assert {name for name in PLUMBING if any(file.is_relative_to(name) for file in imported)} == PLUMBING.keys()
