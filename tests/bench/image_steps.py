"""The steps of the image line with a tiny pipeline of a family: see `tests.bench.families`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from optimum.exporters.openvino.convert import export_from_model
from optimum.intel import OVConfig
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from components.config import ExportImage, load
from components.evaluation.verify_pipeline import measure
from components.export.engines import picture_engines
from components.export.pipeline import write_pipeline
from components.models.brought_pipeline import examine
from components.models.pipelines import Family, States, adapted, adapters, family_of
from components.models.servable import NO
from components.runtimes.base import ImageRequest
from components.runtimes.image import load_pipeline
from components.stage import StageError
from tests.bench.image_families import FAMILIES
from tests.bench.image_pipelines import MAKERS, PAINTED, paint
from tests.tiny_pipelines import SIZE, save
from tests.tiny_pipelines import WRITERS as OF_THE_PRODUCT

CAPTIONS = ("a red apple", "two dogs", "a house", "rain")
RANK, STEPS, GUIDANCE = 4, 4, 3.0
ATTENTION = ["to_q", "to_k", "to_v"]  # as all of diffusers' networks call its layers


def go(family: str, folder: Path, say: Callable[[str, str], None]) -> None:
    """Every step of `STEPS`; `say` takes a step and its figure. What is no family of the product goes as far as the
    libraries take it, and ends with the words with which it is refused."""
    base, checkpoint, export = folder / "base", folder / "checkpoint", folder / "export"
    if family not in OF_THE_PRODUCT:
        without_product(family, folder, say)
        examine(base, None)
        raise TypeError(f"{FAMILIES[family]} is a family, and nobody tries its steps")
    facts = examine(OF_THE_PRODUCT[family](base), None)
    known = family_of(base)
    say("load", f"{facts.parameters:,} parameters, {facts.size} pixels")
    lesson = Lesson(known, base)
    torch.manual_seed(0)
    network = adapters.add(known.read_network(base), known, RANK, RANK)
    after = train(network, lesson.losses, say)
    adapters.save(network, known, checkpoint)
    loaded(known.network(adapted(base, checkpoint)), lesson.losses, after, say)
    params = load()
    serving = params.serving.model_copy(update={"image_steps": STEPS, "image_guidance": GUIDANCE})
    parameters = ExportImage(weight_format="f32", calibration=1)
    write_pipeline(lambda: adapted(base, checkpoint), known, base, parameters, serving, export)
    say("export", size(export))
    document = measure(export, base, known, checkpoint, CAPTIONS[:2], serving, params.verify.image)
    row = document["parity"]["openvino"]
    figures = f"latents within {row['max_latents_error']:.0e} of PyTorch's, pictures {row['min_image_psnr']:.0f} dB"
    if not document["passed"]:
        raise ValueError(figures)
    say("parity", f"{figures}; adapter merged = applied within {row['adapter_merged_error']:.0e}")
    say("serve", serve(export))


def without_product(family: str, folder: Path, say: Callable[[str, str], None]) -> None:
    """The steps to the export with diffusers, PEFT and optimum alone: what a family of the product could be made of."""
    base, checkpoint = folder / "base", folder / "checkpoint"
    torch.manual_seed(0)
    save(MAKERS[family](), base)
    kind, given = getattr(diffusers, FAMILIES[family]), PAINTED.get(family, {})
    made, read = (kind.from_pretrained(base, use_safetensors=True, local_files_only=True) for _ in range(2))
    name = "unet" if hasattr(made, "unet") else "transformer"
    call, one = recorded_call(made, name, given)
    if (apart := float(np.abs(one - recorded_call(read, name, given)[1]).max())) > 1e-5:
        raise ValueError(f"loaded again it paints another picture, up to {apart:.2g} apart")
    parts = [part for part in made.components.values() if isinstance(part, nn.Module)]
    say("load", f"{sum(p.numel() for part in parts for p in part.parameters()):,} parameters")
    with torch.no_grad():
        target = torch.randn_like(call(getattr(made, name)))

    def losses(network: nn.Module) -> torch.Tensor:
        return (call(network) - target).square().mean()

    network = get_peft_model(getattr(made, name), LoraConfig(r=RANK, lora_alpha=RANK, target_modules=ATTENTION))
    after = train(network, losses, say)
    network.save_pretrained(checkpoint)
    merged = PeftModel.from_pretrained(getattr(read, name), checkpoint).merge_and_unload()
    loaded(merged, losses, after, say)
    if (said := picture_engines(FAMILIES[family])["OpenVINO"]).startswith(NO):
        raise StageError(said.removeprefix(NO))
    export_from_model(read, folder / "export", "text-to-image", OVConfig(dtype="fp32"), stateful=False)
    say("export", size(folder / "export"))


def recorded_call(
    pipeline: diffusers.DiffusionPipeline, name: str, given: dict[str, Any]
) -> tuple[Callable[[nn.Module], torch.Tensor], np.ndarray[Any, Any]]:
    """What the pipeline asked of its network first, as it painted: to be asked of any such network; and the picture."""
    calls: list[tuple[Any, Any]] = []
    hook = getattr(pipeline, name).register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    picture = paint(pipeline, **given)
    hook.remove()
    args, kwargs = calls[0]
    return lambda network: network(*args, **kwargs | {"return_dict": False})[0], picture


class Lesson:
    """One batch with its noise and times."""

    def __init__(self, family: Family, base: Path) -> None:
        generator = torch.Generator().manual_seed(0)
        pipeline = family.read(base)
        pictures_BCHW = torch.rand(len(CAPTIONS), 3, SIZE, SIZE, generator=generator) * 2 - 1
        self.family, self.schedule = family, family.scheduler(base)
        self.latents = family.to_latents(pipeline, pictures_BCHW)
        framed = family.framing((SIZE, SIZE), (0, 0), (SIZE, SIZE))
        self.states: States = family.encode(pipeline, CAPTIONS) | {
            name: value.expand(len(CAPTIONS), *value.shape[1:]) for name, value in framed.items()
        }
        self.noise = torch.randn(self.latents.shape, generator=generator)
        self.time = family.times(self.schedule, torch.linspace(0.2, 0.8, len(CAPTIONS)), self.latents)

    def losses(self, network: nn.Module) -> torch.Tensor:
        return self.family.loss(network, self.schedule, self.latents, self.states, self.noise, self.time).mean()


def train(network: nn.Module, losses: Callable[[nn.Module], torch.Tensor], say: Callable[[str, str], None]) -> float:
    """Take one step with the adapter of `network`, and return the loss after it; raises where it grows."""
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    losses(network.train()).backward()
    with torch.no_grad():
        before = float(losses(network.eval()))
        optimizer.step()
        after = float(losses(network))
    if not after < before:
        raise ValueError(f"a step makes the loss no smaller: {before:.5f} → {after:.5f}")
    say("training step", f"loss {before:.4f} → {after:.4f}; {sum(p.numel() for p in trained):,} weights")
    return after


@torch.no_grad()
def loaded(
    network: nn.Module,
    losses: Callable[[nn.Module], torch.Tensor],
    trained: float,
    say: Callable[[str, str], None],
) -> None:
    """Raises where the network with the adapter from its file has another loss than the `trained` one."""
    found = float(losses(network.eval()))
    if abs(found - trained) > 2e-5 * trained:
        raise ValueError(f"the loaded adapter's loss is {found:.5f}, the trained one's {trained:.5f}")
    say("adapter saved and loaded", f"loss {found:.4f}")


def size(export: Path) -> str:
    return f"{sum(file.stat().st_size for file in export.rglob('*.bin')) / 1e3:.0f} kB"


def serve(export: Path) -> str:
    """That the engine paints each seed as it did before, and another seed otherwise."""
    runtime = load_pipeline(export)
    one, other, again = (runtime.generate([ImageRequest(CAPTIONS[0], seed, STEPS, GUIDANCE)])[0] for seed in (1, 2, 1))
    if not np.array_equal(one, again) or np.array_equal(one, other):
        raise ValueError("a seed is not repeated, or means nothing")
    return f"paints in {STEPS} steps; a seed repeats, and another is another picture"
