"""The steps of the image line with a tiny pipeline of a family: see `tests.bench.families`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from components.config import ExportImage, load
from components.evaluation.verify_pipeline import measure
from components.export.pipeline import write_pipeline
from components.models.brought_pipeline import examine
from components.models.pipelines import Family, States, adapted, adapters, family_of
from components.runtimes.base import ImageRequest
from components.runtimes.image import load_pipeline
from tests.bench.image_families import FAMILIES
from tests.bench.image_pipelines import PAINTED, WRITERS, paint
from tests.tiny_pipelines import CARD, SIZE
from tests.tiny_pipelines import WRITERS as OF_THE_PRODUCT

CAPTIONS = ("a red apple", "two dogs", "a house", "rain")
RANK, STEPS, GUIDANCE = 4, 4, 3.0


def go(family: str, folder: Path, say: Callable[[str, str], None]) -> None:
    """Every step of `STEPS`; `say` takes a step and its figure. What is no family here is loaded, paints, and ends with
    the words with which it is refused."""
    base, checkpoint, export = folder / "base", folder / "checkpoint", folder / "export"
    if family not in OF_THE_PRODUCT:
        say("load", load_alone(family, base))
        examine(base, None)
        raise TypeError(f"{FAMILIES[family]} is a family, and nobody tries its steps")
    facts = examine(OF_THE_PRODUCT[family](base), None)
    known = family_of(base)
    say("load", f"{facts.parameters:,} parameters, {facts.size} pixels")
    lesson = Lesson(known, base)
    before, after, trained = train(lesson, base, checkpoint)
    say("training step", f"loss {before:.3f} → {after:.3f}; {trained:,} weights")
    loaded = lesson.loss(known.network(adapted(base, checkpoint)))
    if abs(loaded - after) > 1e-4 * after:
        raise ValueError(f"the loaded adapter's loss is {loaded:.5f}, the trained one's {after:.5f}")
    say("adapter saved and loaded", f"loss {loaded:.3f}")
    params = load()
    serving = params.serving.model_copy(update={"image_steps": STEPS, "image_guidance": GUIDANCE})
    parameters = ExportImage(weight_format="f32", calibration=1)
    write_pipeline(lambda: adapted(base, checkpoint), known, base, parameters, serving, export)
    say("export", f"{sum(file.stat().st_size for file in export.rglob('*.bin')) / 1e3:.0f} kB")
    document = measure(export, base, known, checkpoint, CAPTIONS[:2], serving, params.verify.image)
    row = document["parity"]["openvino"]
    figures = f"latents within {row['max_latents_error']:.0e} of PyTorch's, pictures {row['min_image_psnr']:.0f} dB"
    if not document["passed"]:
        raise ValueError(figures)
    say("parity", f"{figures}; adapter merged = applied within {row['adapter_merged_error']:.0e}")
    say("serve", serve(export, row["seconds_per_picture"]))


def load_alone(family: str, folder: Path) -> str:
    """A pipeline of diffusers that is no family here: saved and loaded again it paints the same."""
    torch.manual_seed(0)
    made = WRITERS[family]()
    made.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    read = type(made).from_pretrained(folder, use_safetensors=True, local_files_only=True)
    one, other = (paint(pipeline, **PAINTED.get(family, {})) for pipeline in (made, read))
    if (apart := float(np.abs(one - other).max())) > 1e-5:
        raise ValueError(f"loaded again it paints another picture, up to {apart:.2g} apart")
    parts = [part for part in made.components.values() if isinstance(part, nn.Module)]
    return (
        f"{sum(p.numel() for part in parts for p in part.parameters()):,} parameters; loaded again it paints the same"
    )


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

    @torch.no_grad()
    def loss(self, network: nn.Module) -> float:
        return float(self.losses(network.eval()))


def train(lesson: Lesson, base: Path, checkpoint: Path) -> tuple[float, float, int]:
    """The loss before and after a step of an adapter, which is saved, and how many weights that has; raises where the
    loss grows."""
    torch.manual_seed(0)
    network = adapters.add(lesson.family.read_network(base), lesson.family, RANK, RANK)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    before = lesson.loss(network)
    lesson.losses(network.train()).backward()
    optimizer.step()
    after = lesson.loss(network)
    if not after < before:
        raise ValueError(f"a step makes the loss no smaller: {before:.5f} → {after:.5f}")
    adapters.save(network, lesson.family, checkpoint)
    return before, after, sum(p.numel() for p in trained)


def serve(export: Path, seconds: float) -> str:
    """That the engine paints each seed as it did before, and another seed otherwise."""
    runtime = load_pipeline(export)
    one, other, again = (runtime.generate([ImageRequest(CAPTIONS[0], seed, STEPS, GUIDANCE)])[0] for seed in (1, 2, 1))
    if not np.array_equal(one, again) or np.array_equal(one, other):
        raise ValueError("a seed is not repeated, or means nothing")
    return f"{1 / seconds:.1f} pictures/s of {STEPS} steps; a seed repeats, alone and in company"
