"""Stage `base_image`: the pipeline that `base.image.model` names, checked and sealed as the base of the image line.

It stays where it is: the digests of its files are sealed, and no second copy is made. The built-in one is the shipped
base, of which its manifest's digest is sealed.
"""

from __future__ import annotations

from typing import Any

from components import config
from components.artifact import read_manifest, seal, staged
from components.host_memory import host_memory
from components.models.brought import Source
from components.models.brought_pipeline import FILES, OTHER_FORMS, examine, refuse
from components.models.hub import download
from components.models.pipelines import family_of
from components.paths import IMAGE_BASE, IMAGE_SOURCE
from components.stage import StageError, run

WHOLE = 4  # bytes of each parameter of the whole pipeline, which is exported from float32 and verified against it
SPARE = 0.8  # share of the memory that is planned with: allocators and the system want the rest


def require_memory(model: str, parameters: int, total: int) -> None:
    """Raise `StageError` where a pipeline is larger than this machine's memory of `total` bytes."""
    needed = WHOLE * parameters
    if needed > SPARE * total:
        raise StageError(
            f"base.image.model: {model} has {parameters / 1e6:,.0f} M parameters with {WHOLE} bytes each, as it is "
            f"exported and verified in float32: {needed / 1e9:.2f} GB of the {total / 1e9:.2f} GB of memory that this "
            f"machine has, {SPARE:.0%} of which can be used; take a smaller pipeline or a larger machine"
        )


def main() -> None:
    """Write `data/base/image`."""
    settings = config.load().base.image
    source = Source.of(settings.model, "image")
    parents: dict[str, str] = {}
    parameters: dict[str, Any] = {"source": settings.model}
    with staged(IMAGE_SOURCE) as folder:
        if source.kind == "built-in":
            parents, said = {"base": read_manifest(IMAGE_BASE).digest}, "the shipped base"
            parameters |= {"family": settings.model}
        else:
            if source.kind == "hub":
                download(source, FILES, OTHER_FORMS, check=lambda folder: refuse(folder, settings.licence))
            here = source.folder
            facts = examine(here, settings.licence, settings.model)
            require_memory(settings.model, facts.parameters, host_memory()[1])
            parameters |= {name: getattr(facts, name) for name in ("family", "licence", "size", "files")}
            said = f"{facts.family}, {facts.parameters / 1e6:.1f} M parameters, {facts.size} pixels, {facts.licence}"
        seal(folder, line="image", kind="base", parents=parents, parameters=parameters, metrics={})
    print(f"{IMAGE_SOURCE}: {settings.model}, {said}")
    if source.kind != "built-in":
        steps, guidance = family_of(here).sampling()
        print(
            f"base image: the pipeline's own defaults are {steps} steps and a guidance of {guidance:g}. What is "
            "verified, evaluated and served stands in serving.image_steps and serving.image_guidance, as shipped the "
            "built-in model's 12 and 3.5: set them before training"
        )
        if config.load().evaluate.image.encoder is None:
            print(
                "base image: evaluate.image.encoder is null: nothing says whether a picture shows what its caption "
                "says, and a later release cannot be compared with the champion, but takes --force 'the reason'; "
                "name the folder of a CLIP or SigLIP model before training"
            )


if __name__ == "__main__":
    run(main)
