"""What a model that somebody names would be here, from its files alone: no weights are loaded, no digests taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.chat import context_length
from components.models import headers
from components.models.brought import BUILT_IN, Source, faults, licence_of, tensors, unlicensed
from components.models.card import Card, licensed
from components.models.hub import moving
from components.models.servable import too_large, unservable
from components.paths import IMAGE_BASE
from components.planner.shape import Header, Shape, read
from components.stage import StageError

PIPELINE = "model_index.json"


def card_of(model: str, licence: str | None = None) -> Card:
    """Raises `StageError` for what names no model, and where a hub does not answer."""
    if model == BUILT_IN["image"]:
        return _sticker()
    source = Source.of(model)
    if source.kind in ("built-in", "gguf"):
        return _gguf(source, licence)
    if source.kind == "folder":
        folder = Path(source.name)
        if not folder.is_dir():
            raise StageError(f"there is no folder {folder}")
        files, missing = headers.of_folder(folder), _weights(folder)
    else:
        files, commit = headers.of_hub(source)
        missing = [moving(source, commit)] if commit != source.revision else []
    if (files.folder / PIPELINE).is_file():
        from components.models.card_pipeline import card

        return card(files, licence, missing, local=source.kind == "folder")
    return _language(files, licence, missing)


def _language(files: headers.Files, licence: str | None, missing: list[str]) -> Card:
    unable = faults(files.folder, licence or "of no interest to the template")
    missing += faults(files.folder, licence)
    config: dict[str, Any] = json.loads((files.folder / "config.json").read_bytes())
    found = files.of_language_model()
    named = licence or licence_of(files.folder)
    talk, faulty = ({}, []) if unable else _talk(lambda prompt: _chat(files.folder, prompt))
    missing += [] if unable else [*unservable(str(config["model_type"])), *_unverifiable(files.folder)]
    missing += too_large(sum(header.values for header in found.values()))
    return _card(config, found, named, talk, missing + faulty)


def _weights(folder: Path) -> list[str]:
    """What is wrong with a language model's weights."""
    if not (folder / "config.json").is_file():
        return []
    try:
        list(tensors(folder))
    except StageError as error:
        return [str(error).removeprefix("base.text.model: ")]
    return []


def _card(
    config: Mapping[str, Any], found: Mapping[str, Header], licence: str, talk: dict[str, str], missing: list[str]
) -> Card:
    kind = str(config.get("model_type"))
    facts = {"family": kind, "licence": licensed(licence)}
    shape = None
    try:
        shape = read(config, found)
    except ValueError as error:
        facts["parameters"] = f"{sum(header.values for header in found.values()) / 1e6:,.1f} M; not planned: {error}"
    else:
        facts["parameters"] = parameters(shape)
        facts["layers"] = (
            f"{shape.layers} of width {shape.hidden:,}, {shape.heads} heads of {shape.head_dim} "
            f"({shape.kv_heads} for keys and values), MLP {shape.intermediate:,}, vocabulary {shape.vocabulary:,}"
        )
    context = context_length(config.get("text_config") or config)
    facts["context"] = f"{context:,} tokens" if context else "its configuration does not say"
    return Card("text", kind, facts | talk, missing, shape, context)


def parameters(shape: Shape) -> str:
    tied = ", the output's too" if shape.tied else ""
    experts = (
        f"; {shape.expert / 1e6:,.1f} M in experts, of which a token passes {shape.active:.0%}" if shape.expert else ""
    )
    return f"{shape.parameters / 1e6:,.1f} M ({shape.embedding / 1e6:,.1f} M embedding{tied}){experts}"


def _chat(folder: Path, prompt: str) -> Any:
    from components.models.language import Chat

    return Chat.of_base(folder, prompt)


def _unverifiable(folder: Path) -> Iterator[str]:
    from components.models.language import unverifiable

    return unverifiable(folder)


def _talk(chat_with: Callable[[str], Any]) -> tuple[dict[str, str], list[str]]:
    """What the template and the special tokens are, asked as training asks; and what is wrong with them."""
    try:
        chat = chat_with("")
    except StageError as error:
        return {}, [str(error)]
    except (ValueError, OSError, KeyError) as error:
        return {}, [f"its tokenizer cannot be read: {error}"]
    try:
        chat_with("Be brief.")
        system = "takes a system message"
    except StageError:
        system = "takes no system message: leave train.text.system_prompt empty"

    def words(ids: tuple[int, ...]) -> str:
        return " ".join(map(repr, chat.tokenizer.convert_ids_to_tokens(list(ids))))

    given = ", ".join(f"{name}: {value}" for name, value in chat.format.variables.items())
    return {
        "template": f"{system}; variables given: {given or 'none'}",
        "end tokens": f"{words(chat.format.ends)}; an answer is closed with {words(chat.format.closing)}",
        "padding": words((chat.pad,)),
        "special tokens": f"{len(chat.tokenizer.all_special_tokens)}: {' '.join(chat.tokenizer.all_special_tokens)}",
    }, []


def chat_of(model: str, system_prompt: str) -> Any:
    """The `Chat` of a base that is on this machine, None of one that a hub still has; no weights are loaded.

    Raises `StageError` for what names no model, and where its tokenizer or template cannot be used.
    """
    source = Source.of(model)
    if source.kind in ("built-in", "gguf"):
        from components.models.base_text import SOURCE

        path = SOURCE if source.kind == "built-in" else Path(source.name)
        return _gguf_chat(path, headers.of_gguf(path).fields, system_prompt)
    if not source.folder.is_dir():
        if source.kind == "folder":
            raise StageError(f"base.text.model: there is no folder {source.folder}")
        return None
    return _chat(source.folder, system_prompt)


def _gguf_chat(path: Path, fields: Any, prompt: str) -> Any:
    from components.models.base_text import gguf_tokenizer
    from components.models.language import Chat, format_of

    tokenizer = gguf_tokenizer(path, fields)
    if not tokenizer.chat_template:
        raise StageError("it has no chat template, so that it is a base model and nobody has taught it to answer")
    return Chat(tokenizer, format_of(tokenizer, [tokenizer.eos_token_id], prompt))


def _gguf(source: Source, licence: str | None) -> Card:
    """Of the file, from which the stage would make a folder."""
    from components.models.base_text import DEQUANTISED, SOURCE, licence_of_gguf

    path = SOURCE if source.kind == "built-in" else Path(source.name)
    file = headers.of_gguf(path)
    built_in = source.kind == "built-in"
    named = "apache-2.0" if built_in else licence or licence_of_gguf(path)
    missing = [] if named else ["the file names no licence: write under base.text.licence which it is"]
    missing += unlicensed(named, licence) if named and not built_in else ()
    parameters = sum(header.values for header in file.headers.values())
    missing += too_large(parameters, DEQUANTISED, "while it is dequantised")

    talk, faulty = _talk(lambda prompt: _gguf_chat(path, file.fields, prompt))
    return _card(file.config, file.headers, named, talk, missing + faulty)


def _sticker() -> Card:
    """The shipped one."""
    files = headers.of_folder(IMAGE_BASE)
    config = json.loads((IMAGE_BASE / "config.json").read_bytes())
    count = sum(header.values for path in files.weights for header in files.headers(path).values())
    facts = {
        "family": "diffusion transformer of this project, flow matching on pixels",
        "licence": "see docs/licences.md",
        "parameters": f"{count / 1e6:,.1f} M",
        "native size": f"{config['size']} × {config['size']} pixels",
        "captions": f"English, {config['text_tokens']} token states of MiniLM",
    }
    return Card("image", BUILT_IN["image"], facts, [])
