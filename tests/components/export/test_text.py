"""What an export consists of, and that one which fails leaves nothing half-done."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from components.artifact import read_manifest, seal
from components.chat import ChatFormat
from components.export import text
from components.models.language import add_adapter, load_base
from components.stage import StageError
from tests.tiny_language import tiny_chat


@pytest.fixture
def stage(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stage's folders under `tmp_path`, with an untrained adapter as the checkpoint."""
    import torch

    checkpoint = tmp_path / "checkpoint"
    add_adapter(load_base(tiny_base, torch.float32), rank=2, alpha=2, dropout=0.0).save_pretrained(str(checkpoint))
    (checkpoint / "README.md").unlink(missing_ok=True)
    tiny_chat(tiny_base, "Be brief.").format.write(checkpoint)
    seal(checkpoint, line="text", kind="checkpoint", parents={}, parameters={}, metrics={})
    monkeypatch.setattr(text, "TEXT_BASE", tiny_base)
    monkeypatch.setattr(text, "CHECKPOINT", checkpoint)
    monkeypatch.setattr(text, "TEXT_EXPORT", tmp_path / "export")
    return tmp_path


def test_an_export_holds_what_serving_needs_and_its_parent(stage: Path) -> None:
    text.main()
    manifest = read_manifest(stage / "export")
    assert manifest.parents == {"checkpoint": read_manifest(stage / "checkpoint").digest}
    needed = {"openvino_model.xml", "openvino_model.bin", "openvino_tokenizer.xml", "openvino_detokenizer.xml"}
    needed |= {"tokenizer.json", "config.json", "chat_template.jinja", "chat.json"}
    assert {f"openvino/{name}" for name in needed} <= manifest.files.keys()
    assert ChatFormat.read(stage / "export/openvino") == ChatFormat.read(stage / "checkpoint")
    written = (path for path in (stage / "export").rglob("*") if path.suffix in {".json", ".xml"})
    assert not any(str(stage) in path.read_text(encoding="utf-8") for path in written)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("No space left"), KeyboardInterrupt()]
)
def test_a_full_disk_or_an_interruption_leaves_the_previous_export(
    stage: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    (stage / "export").mkdir()
    (stage / "export" / "model").write_text("previous")

    def fail(model: object, chat: object, target: Path, weight_format: str) -> None:
        target.mkdir()
        (target / "half.bin").write_bytes(b"0")
        raise error

    monkeypatch.setattr(text, "convert", fail)
    with pytest.raises((StageError, KeyboardInterrupt)) as caught:
        text.main()
    if not isinstance(error, KeyboardInterrupt):
        assert "No space left" in str(caught.value) and "run it again" in str(caught.value)
    assert sorted(path.name for path in stage.iterdir()) == ["checkpoint", "export"]
    assert (stage / "export" / "model").read_text() == "previous"
