"""The wire between gateway and model Bentos: bounds, and what a Bento says of the artifact it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bentoml.exceptions import BentoMLException
from pydantic import ValidationError

from bentos.protocol import ImageJob, TextJob, TextLine, artifact_folder, describe, require_artifact
from components.artifact import ArtifactError, seal

PICTURE: dict[str, Any] = {"id": "1", "prompt": "a boat", "seed": 0, "steps": 20, "guidance": 3.0}
TEXT: dict[str, Any] = {"messages": [("user", "hi")], "max_new_tokens": 8, "temperature": 0.7}


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        *((ImageJob, {"id": value}) for value in ("", "x" * 201)),
        *((ImageJob, {"prompt": value}) for value in ("", "x" * 4001)),
        *((ImageJob, {"seed": value}) for value in (-1, 2**32)),
        *((ImageJob, {"steps": value}) for value in (0, 1001)),
        *((ImageJob, {"guidance": value}) for value in (-1, 51, float("nan"))),
        *((ImageJob, {"side": value}) for value in (0, 2049)),
        *((TextJob, {"messages": value}) for value in ([], [("user", "hi")] * 101, [("wizard", "hi")])),
        *((TextJob, {"temperature": value}) for value in (-0.1, 2.1, float("inf"))),
        *((TextJob, {"top_p": value}) for value in (0, 1.1)),
        (TextJob, {"max_new_tokens": 0}),
        (TextJob, {"stop": "."}),
    ],
    ids=lambda value: f"{next(iter(value.items()))}"[:40] if isinstance(value, dict) else value.__name__,
)
def test_every_bound_is_checked(model: type[ImageJob | TextJob], wrong: dict[str, Any]) -> None:
    good = PICTURE if model is ImageJob else TEXT
    assert model.model_validate(good)
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        model.model_validate(good | wrong)


def test_a_stream_s_lines_carry_only_what_they_say() -> None:
    line = TextLine(piece="rot\nund blau")
    assert line.model_dump_json(exclude_none=True) == '{"piece":"rot\\nund blau"}'  # one line, whatever is in it


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "weights").write_bytes(b"1")
    seal(tmp_path, line="text", kind="package", parents={}, parameters={}, metrics={})
    monkeypatch.setenv("ATELIER_TEXT_ARTIFACT", str(tmp_path))
    monkeypatch.delenv("ATELIER_DEPLOYMENT", raising=False)
    return tmp_path


def test_a_bento_says_what_it_serves(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_artifact("text")
    info = describe("text", artifact_folder("text"))
    assert info.deployment == f"text-{info.digest[:12]}"
    monkeypatch.setenv("ATELIER_DEPLOYMENT", "text-7")
    assert describe("text", artifact).deployment == "text-7"


def test_without_the_variable_it_is_the_packaged_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATELIER_IMAGE_ARTIFACT", raising=False)
    assert artifact_folder("image") == Path("artifacts/image/package")


def test_another_line_s_artifact_is_refused(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_IMAGE_ARTIFACT", str(artifact))
    with pytest.raises(BentoMLException, match="is an artifact of the text line, not of image"):
        require_artifact("image")


def test_changed_bytes_are_not_described(artifact: Path) -> None:
    (artifact / "weights").write_bytes(b"2")
    with pytest.raises(ArtifactError, match="weights was changed"):
        describe("text", artifact)
