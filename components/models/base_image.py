"""Stage `base_image`: the pipeline that `base.image.model` names, checked and sealed as the base of the image line.

It stays where it is: the digests of its files are sealed, and no second copy is made. The built-in one is the shipped
base, of which its manifest's digest is sealed.
"""

from __future__ import annotations

from typing import Any

from components import config
from components.artifact import read_manifest, seal, staged
from components.models.brought import Source
from components.models.brought_pipeline import download, examine
from components.models.pipelines import family_of
from components.paths import IMAGE_BASE, IMAGE_SOURCE
from components.stage import run


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
            here = (download(source) if source.kind == "hub" else source).folder
            facts = examine(here, settings.licence, settings.model)
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


if __name__ == "__main__":
    run(main)
