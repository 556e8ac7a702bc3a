"""The works named are those the model was made from."""

from __future__ import annotations

from components.export.attribution import attribution


def test_each_line_names_its_models_and_its_data() -> None:
    text, image = attribution("text", "openmoji"), attribution("image", "openmoji")
    assert "SmolLM2" in text and "OpenMoji" in text and "MiniLM" not in text
    assert "MiniLM" in image and "OpenMoji" in image and "SmolLM2" not in image


def test_own_data_is_named_as_such_and_the_image_base_keeps_its_source() -> None:
    assert "operator's own" in attribution("text", "jsonl") and "OpenMoji" not in attribution("text", "jsonl")
    assert "OpenMoji" in attribution("image", "folder")  # the shipped base was trained on it
