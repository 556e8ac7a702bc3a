"""Only a gated, verified export of the checkpoint at hand becomes a package; it carries its whole chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.artifact import ArtifactError, Manifest, seal, verify
from components.export.package import attribution, package
from components.stage import StageError

PASSED: dict[str, Any] = {"passed": True, "parity": True, "checks": []}


def folders(root: Path, *, gate: dict[str, Any] | None = None, parity: bool = True) -> tuple[Path, Path, Manifest]:
    """Artifacts, metrics and the export's manifest of a model that passed unless told otherwise."""
    artifacts, metrics = root / "artifacts", root / "metrics"
    for name in ("checkpoint", "export"):
        (artifacts / name).mkdir(parents=True)
        (artifacts / name / "weights.bin").write_bytes(name.encode())
    common: dict[str, Any] = {"line": "image", "parameters": {}, "metrics": {}}
    trained = seal(artifacts / "checkpoint", kind="checkpoint", parents={"data": "d" * 64, "base": "b" * 64}, **common)
    exported = seal(artifacts / "export", kind="export", parents={"checkpoint": trained.digest}, **common)
    metrics.mkdir()
    documents = {"evaluate": {"after": {}}, "verify": {"passed": parity}, "gate": PASSED if gate is None else gate}
    for name, document in documents.items():
        (metrics / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return artifacts, metrics, exported


def test_a_package_verifies_and_carries_chain_metrics_and_attribution(tmp_path: Path) -> None:
    artifacts, metrics, exported = folders(tmp_path)
    manifest = package("image", "openmoji", artifacts, metrics)
    assert verify(artifacts / "package") == manifest
    assert manifest.parents["data"] == "d" * 64 and manifest.parents["base"] == "b" * 64
    assert manifest.parents["checkpoint"] == exported.parents["checkpoint"]
    assert manifest.parents["export"] == exported.digest
    assert manifest.metrics["gate"]["passed"] is True
    assert (artifacts / "package" / "weights.bin").samefile(artifacts / "export" / "weights.bin")  # no second copy
    assert "CC BY-SA 4.0" in (artifacts / "package" / "ATTRIBUTION.md").read_text(encoding="utf-8")


def test_packaging_twice_gives_one_digest(tmp_path: Path) -> None:
    artifacts, metrics, _ = folders(tmp_path)
    assert package("image", "openmoji", artifacts, metrics) == package("image", "openmoji", artifacts, metrics)


def test_a_refused_model_is_not_packaged_and_says_what_it_failed(tmp_path: Path) -> None:
    check = {"name": "kid", "value": 0.5, "relation": "at most", "threshold": 0.25, "passed": False}
    artifacts, metrics, _ = folders(tmp_path, gate={"passed": False, "parity": True, "checks": [check]})
    with pytest.raises(StageError, match=r"kid is 0\.5, must be at most 0\.25"):
        package("image", "openmoji", artifacts, metrics)
    assert not (artifacts / "package").exists()
    assert json.loads((metrics / "gate.json").read_bytes())["checks"] == [check]


def test_failed_parity_blocks_the_package_whatever_the_gate_says(tmp_path: Path) -> None:
    artifacts, metrics, _ = folders(tmp_path, parity=False)
    with pytest.raises(StageError, match="parity"):
        package("image", "openmoji", artifacts, metrics)


def test_a_damaged_export_is_not_packaged(tmp_path: Path) -> None:
    artifacts, metrics, _ = folders(tmp_path)
    (artifacts / "export" / "weights.bin").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=r"weights\.bin was changed"):
        package("image", "openmoji", artifacts, metrics)


def test_an_export_of_another_checkpoint_is_not_packaged(tmp_path: Path) -> None:
    artifacts, metrics, _ = folders(tmp_path)
    seal(artifacts / "checkpoint", line="image", kind="checkpoint", parents={}, parameters={"new": 1}, metrics={})
    with pytest.raises(StageError, match="another checkpoint"):
        package("image", "openmoji", artifacts, metrics)


def test_a_stage_that_has_not_run_is_named(tmp_path: Path) -> None:
    artifacts, metrics, _ = folders(tmp_path)
    (metrics / "verify.json").unlink()
    with pytest.raises(StageError, match=r"verify\.json: no readable metrics"):
        package("image", "openmoji", artifacts, metrics)


def test_each_line_names_its_models_and_its_data() -> None:
    base = {"source": "smollm2", "family": "llama", "licence": "apache-2.0"}
    text, image = attribution("text", "openmoji", base), attribution("image", "openmoji")
    assert "SmolLM2" in text and "OpenMoji" in text and "MiniLM" not in text
    assert "MiniLM" in image and "OpenMoji" in image and "SmolLM2" not in image


def test_own_data_is_named_as_such_and_the_image_base_keeps_its_source() -> None:
    assert "operator's own" in attribution("text", "jsonl") and "OpenMoji" not in attribution("text", "jsonl")
    assert "OpenMoji" in attribution("image", "folder")  # the shipped base was trained on it


def test_the_attribution_of_a_brought_pipeline_names_it_and_not_the_shipped_base() -> None:
    base = {"source": "stabilityai/sdxl@1", "family": "sdxl", "licence": "openrail++"}
    text = attribution("image", "folder", base)
    assert "stabilityai/sdxl@1 (sdxl), openrail++: the base model" in text
    assert "OpenMoji" not in text and "MiniLM" not in text
