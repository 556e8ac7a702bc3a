"""`dvc.yaml` names the code that each stage imports: no change of it passes unseen, and no other change re-runs it."""

from __future__ import annotations

import re
import shutil
from functools import reduce
from itertools import chain
from operator import getitem
from pathlib import Path

import grimp
import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo

from components.config import Params
from components.config.document import read_yaml, write_yaml
from components.config.keys import keys

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


# The sections of params.yaml whose every key is some stage's; all other sections are of services and searches.
STAGE_SECTIONS = {
    "fetch",
    "base",
    "example",
    "prepare",
    "clean",
    "split",
    "train",
    "evaluate",
    "export",
    "verify",
    "gate",
}


def declared_parameters(root: Path) -> dict[str, list[ParamsDependency]]:
    """Of each stage the parameters that it declares, as DVC reads `dvc.yaml`."""
    return {
        stage.name: [dependency for dependency in stage.deps if isinstance(dependency, ParamsDependency)]
        for stage in Repo(root).index.stages
    }


def test_each_key_of_a_stages_section_is_declared_by_a_stage_and_of_the_others_only_what_is_sampled_with() -> None:
    dependencies = chain(*declared_parameters(ROOT).values())
    declared = {name for dependency in dependencies for name in dependency.params}
    leaves = [key for key in keys(Params) if not key.has_keys]
    tracked = {key.name for key in leaves if any(f"{key.name}.".startswith(f"{name}.") for name in declared)}
    sampling = ("image_steps", "image_guidance", "text_max_new_tokens", "text_temperature", "text_top_p")
    of_stages = {key.name for key in leaves if key.place[0] in STAGE_SECTIONS}
    assert tracked == of_stages | {f"serving.{name}" for name in sampling}


@pytest.mark.parametrize(
    ("key", "value", "stages"),
    [
        ("serving.gateway_port", 4000, set()),
        ("release.min_requests", 7, set()),
        ("monitor.keep", 7, set()),
        ("base.text.model", "./mine", {"base_text", "clean@text"}),
        (
            "base.image.model",
            "./mine",
            {"base_image", "clean@image", "train_image", "export_image", "export_base", "verify_image"}
            | {"evaluate_image", "evaluate_forgetting", "evaluate_prompts"},
        ),
        ("train.image.regularisation", {"path": "data/regularisation", "share": 0.2, "weight": 1.0}, {"train_image"}),
        ("train.text.lora_rank", 2, {"train_text"}),
        ("train.text.system_prompt", "", {"train_text"}),
        ("gate.image.max_named_shortfall", 0.9, {"gate@image"}),
        ("prepare.image.source", "openmoji", {"prepare@image", "package@image"}),
        ("serving.text_top_p", 0.5, {"evaluate_text"}),
    ],
)
def test_a_changed_parameter_reruns_the_stages_that_declare_it_and_no_other(
    tmp_path: Path, key: str, value: object, stages: set[str]
) -> None:
    Repo.init(str(tmp_path), no_scm=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    declared = declared_parameters(tmp_path)
    for dependency in chain(*declared.values()):
        dependency.save()  # as after a run
    document = read_yaml(tmp_path / "params.yaml")
    *parents, last = key.split(".")
    reduce(getitem, parents, document)[last] = value
    write_yaml(tmp_path / "params.yaml", document)
    assert {stage for stage, found in declared.items() if any(dependency.status() for dependency in found)} == stages


def test_a_change_of_a_users_own_metric_reruns_the_evaluation_of_text_and_no_other_stage(tmp_path: Path) -> None:
    Repo.init(str(tmp_path), no_scm=True)
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "scoring/__pycache__").mkdir(parents=True)
    (tmp_path / "scoring/mine.py").write_text("def right(*_):\n    return 1.0\n")
    with_it = {s.name: d for s in Repo(str(tmp_path)).index.stages for d in s.deps if d.def_path == "scoring"}
    assert with_it.keys() == {"evaluate_text"}
    folder = with_it["evaluate_text"]
    folder.save()
    (tmp_path / "scoring/__pycache__/mine.pyc").write_text("bytes")
    assert not folder.status()
    (tmp_path / "scoring/mine.py").write_text("def right(*_):\n    return 0.0\n")
    assert folder.status()
