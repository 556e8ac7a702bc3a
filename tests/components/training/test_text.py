"""Fine-tuning on a tiny model: it learns, it repeats itself exactly, and it leaves a loadable adapter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.artifact import verify
from components.config import TrainText
from components.data.pairs import Pair, read_pairs
from components.models.language import Chat, adapted, add_adapter, held_out_loss, load_base, load_merged
from components.paths import TEXT_CHECKPOINT as CHECKPOINT
from components.paths import TEXT_SPLIT as SPLIT
from components.stage import StageError
from components.training import text
from components.training.lengths import Taught, fitting
from components.training.trainer import Fitted
from tests.components.training.layouts import losses, set_parameters, train_here, write_project
from tests.tiny_language import SYSTEM_PROMPT, thinking_chat, tiny_chat

PAIRS = [Pair(f"draw {name}", f"{name}: flat", name) for name in ("apple", "heart", "rocket", "dog")]
ROOT = Path(__file__).resolve().parents[3]

SETTINGS = TrainText(
    seed=3,
    max_steps=12,
    batch_size=4,
    learning_rate=0.02,
    precision="fp32",
    strategy="auto",
    devices=1,
    checkpoint_every=5,
    system_prompt=SYSTEM_PROMPT,
    max_length=128,
    learned_share=0.5,
    preference_weight=1.0,
    lora_rank=4,
    lora_alpha=8,
    lora_dropout=0.0,
)


def taught(chat: Chat, pairs: Sequence[Pair] = PAIRS, **changes: object) -> list[Taught]:
    return fitting(chat, pairs, SETTINGS.model_copy(update=changes), 512).samples


@pytest.fixture(scope="module")
def trained(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fitted]:
    """A published checkpoint and how the run went."""
    root = tmp_path_factory.mktemp("train")
    chat = tiny_chat(tiny_base)
    model, fitted = text.train(tiny_base, chat, taught(chat), SETTINGS, state_dir=root / "state", key="run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "CHECKPOINT", root / "checkpoint")
        metrics = text.summarise(fitted, 1.0, 12)
        text.publish(model, chat, SETTINGS, verify(tiny_base), {"data": "d", "base": "b"}, metrics)
    return root / "checkpoint", fitted


def test_training_lowers_the_loss_of_the_merged_model(tiny_base: Path, trained: tuple[Path, Fitted]) -> None:
    chat = tiny_chat(tiny_base)
    before = held_out_loss(load_base(tiny_base, torch.float32), chat, PAIRS)
    after = held_out_loss(load_merged(tiny_base, trained[0], torch.float32), chat, PAIRS)
    assert after < before - 0.1


def test_a_seed_gives_the_same_weights_twice(tiny_base: Path, trained: tuple[Path, Fitted], tmp_path: Path) -> None:
    chat = tiny_chat(tiny_base)
    _, again = text.train(tiny_base, chat, taught(chat), SETTINGS, state_dir=tmp_path, key="run")
    assert again.losses == trained[1].losses
    assert all(torch.equal(value, trained[1].weights[name]) for name, value in again.weights.items())


def test_3_equal_weights_are_written_as_equal_bytes_in_every_process(tiny_base: Path, tmp_path: Path) -> None:
    """In this one and in one whose sets are in another order."""
    code = """import sys; from pathlib import Path; from components.models.language import add_adapter, load_base
import torch; from components.training import text; torch.manual_seed(1)
text.save(add_adapter(load_base(Path(sys.argv[1]), torch.float32), rank=2, alpha=4, dropout=0.0), Path(sys.argv[2]))"""
    variables = os.environ | {"PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    command = [sys.executable, "-c", code, str(tiny_base), str(tmp_path / "other")]
    subprocess.run(command, cwd=ROOT, env=variables, check=True)
    torch.manual_seed(1)
    model = add_adapter(load_base(tiny_base, torch.float32), rank=2, alpha=4, dropout=0.0)
    text.save(model, tmp_path / "own")
    own, other = ({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("own", "other"))
    assert own.keys() >= {"adapter_config.json", "adapter_model.safetensors"} and own == other


def test_the_checkpoint_holds_the_adapter_alone_and_names_its_parents(trained: tuple[Path, Fitted]) -> None:
    folder, fitted = trained
    manifest = verify(folder)
    assert sorted(manifest.files) == ["adapter_config.json", "adapter_model.safetensors", "chat.json"]
    assert manifest.parents == {"data": "d", "base": "b"}
    stored = load_file(folder / "adapter_model.safetensors")
    assert sum(w.numel() for w in stored.values()) == manifest.metrics["trained_parameters"]
    assert len(fitted.losses) == SETTINGS.max_steps


def test_resumable_state_does_not_hold_the_frozen_base(tiny_base: Path, tmp_path: Path) -> None:
    chat = tiny_chat(tiny_base)
    text.train(tiny_base, chat, taught(chat), SETTINGS, state_dir=tmp_path, key="run")
    (state,) = tmp_path.rglob("*.ckpt")
    weights = torch.load(state, weights_only=True)["state_dict"]
    assert weights and all("lora_" in name for name in weights)


def test_3_steps_for_learned_pairs_are_told_and_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six pairs of the source in max_steps 6; two learned ones are repeated to as many, in six steps more."""
    project = write_project(tmp_path, "text", contrasts=(2, 5))
    set_parameters(project, "text", max_steps=6, learned_share=0.5)
    train_here(project, "text", monkeypatch)
    manifest = verify(project / CHECKPOINT)
    assert len(losses(project, "text")) == manifest.parameters["max_steps"] == manifest.metrics["steps"] == 12
    assert manifest.metrics["steps_for_learned"] == 6 and manifest.metrics["pairs"] == 8
    assert "12 steps; max_steps 6 are for the source's pairs" in capsys.readouterr().out


def test_3_without_learned_pairs_max_steps_is_what_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = write_project(tmp_path, "text")
    set_parameters(project, "text", max_steps=2, learned_share=0.5)
    train_here(project, "text", monkeypatch)
    manifest = verify(project / CHECKPOINT)
    assert manifest.parameters["max_steps"] == manifest.metrics["steps"] == 2
    assert manifest.metrics["steps_for_learned"] == 0 and "max_steps" not in capsys.readouterr().out


def test_4_pairs_longer_than_max_length_are_left_out_whole_said_so_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = write_project(tmp_path, "text")
    pairs, chat = read_pairs(project / SPLIT / "train.parquet"), tiny_chat(project / text.TEXT_BASE)
    lengths = sorted(len(chat.encode(pair)[0]) for pair in pairs)
    set_parameters(project, "text", max_steps=1, max_length=lengths[3])
    train_here(project, "text", monkeypatch)
    fit = sum(length <= lengths[3] for length in lengths)
    metrics = verify(project / CHECKPOINT).metrics
    assert (metrics["pairs"], metrics["pairs_too_long"]) == (fit, len(pairs) - fit)
    assert f"{len(pairs) - fit} of {len(pairs)} pairs are left out" in capsys.readouterr().out
    set_parameters(project, "text", max_length=lengths[0] - 1)
    with pytest.raises(StageError, match=r"raise max_length under train\.text"):
        train_here(project, "text", monkeypatch)


def test_steps_are_counted_in_samples_of_which_a_conversation_may_have_several(tiny_base: Path) -> None:
    """Two answers of the source's conversation, one that users taught: half of what is seen, for the steps set."""
    chat = thinking_chat()
    talk = Pair("bluer", "blue boat", "boat", history=(("user", "a boat"), ("assistant", "boat")))
    pairs = [talk, Pair("a dog", "dog", "dog", learned=True)]
    samples = taught(chat, pairs, max_length=None)
    seen, run = text.schedule(samples, SETTINGS.model_copy(update={"learned_share": 0.5}))
    assert [sample.learned for sample in samples] == [False, False, True]
    assert (len(seen), sum(sample.learned for sample in seen), run.max_steps) == (4, 2, 24)


@pytest.mark.parametrize("changes", [{"packing": True}, {"micro_batch": 3, "gradient_checkpointing": True}], ids=str)
def test_what_changes_no_result_changes_none(tiny_base: Path, changes: dict[str, object], tmp_path: Path) -> None:
    chat = tiny_chat(tiny_base)
    pairs = [replace(pair, rejected="nothing of the kind") if pair.concept == "dog" else pair for pair in PAIRS]
    short = {"max_steps": 4, "learning_rate": 0.005}
    (_, plain), (_, other) = (
        text.train(tiny_base, chat, taught(chat, pairs), SETTINGS.model_copy(update=c), state_dir=tmp_path, key=str(c))
        for c in (short, short | changes)
    )
    assert [loss for _, loss in other.losses] == pytest.approx([loss for _, loss in plain.losses], abs=2e-4)


def test_a_model_that_cannot_tell_packed_samples_apart_is_refused() -> None:
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=259, hidden_size=32, n_layer=1, n_head=2, initializer_range=0.5))
    with pytest.raises(StageError, match=r"a model of the family bloom .* set packing: false"):
        text.require_apart(model, taught(thinking_chat()), 2)


@pytest.mark.parametrize("adapter", ["full", "dora"])
def test_every_weight_or_dora_is_trained_sealed_and_loaded_as_any_checkpoint(
    adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path, "text")
    set_parameters(project, "text", adapter=adapter, packing=True, learning_rate=0.01)
    train_here(project, "text", monkeypatch)
    manifest = verify(project / CHECKPOINT)
    base, chat = project / text.TEXT_BASE, tiny_chat(project / text.TEXT_BASE)
    assert manifest.metrics["loss"] < manifest.metrics["loss_first"]
    merged = load_merged(base, project / CHECKPOINT, torch.float32)
    held_out = read_pairs(project / SPLIT / "validation.parquet")
    assert held_out_loss(merged, chat, held_out) == pytest.approx(manifest.metrics["validation_loss"], abs=1e-3)
    if adapter == "full":
        assert {"model.safetensors", "config.json", "tokenizer.json", "chat.json"} <= set(manifest.files)
        assert manifest.metrics["trained_parameters"] == sum(p.numel() for p in merged.parameters())
        assert Chat.read(project / CHECKPOINT, project / CHECKPOINT).format == chat.format


def test_quantising_is_refused_before_anything_is_loaded_where_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    set_parameters(tmp_path, "text", quantised="nf4")
    with pytest.raises(StageError, match="nf4 needs an NVIDIA GPU"):  # and not: there is no base
        train_here(tmp_path, "text", monkeypatch)


def test_a_base_larger_than_memory_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path, "text")
    monkeypatch.setattr(text, "memory", lambda: (10_000, 10_000))
    monkeypatch.setattr(text, "load_base", lambda *_: pytest.fail("the base was loaded"))
    set_parameters(project, "text")
    with pytest.raises(StageError, match="M parameters with 4 bytes each for weights"):
        train_here(project, "text", monkeypatch)


def test_each_answer_of_a_conversation_is_learned_and_what_was_disliked_stands_beside_the_last() -> None:
    history = (("user", "a boat"), ("assistant", "boat"))
    pair = Pair("make it bluer", "blue boat", "boat", rejected="red boat", history=history)
    chat = thinking_chat()
    batches = text.Batches(taught(chat, [PAIRS[0], pair, PAIRS[1]], max_length=None), chat.pad, SETTINGS)
    answers = (PAIRS[0].completion, "boat", "blue boat", PAIRS[1].completion)
    assert batches.labels == [len(answer) + 1 for answer in answers]  # a token for each letter, and the end
    (batch,) = batches([0, 1, 2], [0, 1, 2])
    assert (batch.samples, batch.liked_P.tolist(), batch.contrasts) == (3, [2], 1.0)


def test_what_users_disliked_becomes_less_likely(tiny_base: Path, tmp_path: Path) -> None:
    rejected = [replace(pair, rejected="nothing of the kind") for pair in PAIRS]
    disliked = [replace(pair, completion=pair.rejected) for pair in rejected]
    chat = tiny_chat(tiny_base)
    models = [
        text.train(tiny_base, chat, taught(chat, pairs), SETTINGS, state_dir=tmp_path, key=k)[0]
        for k, pairs in (("a", PAIRS), ("b", rejected))
    ]
    plain, contrasted = (held_out_loss(adapted(model), chat, disliked) for model in models)
    assert contrasted > plain + 0.1
