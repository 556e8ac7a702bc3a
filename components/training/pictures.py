"""What a brought pipeline learns from and is measured on: a user's pictures, and regularisation pictures beside them.

What is wrong with them is said once, before anything is computed. Knows nothing of latents or of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.artifact import read_manifest
from components.config import Clean, TrainImage
from components.data import sample
from components.models.pipelines import Family
from components.paths import IMAGE_SPLIT as SPLIT
from components.stage import StageError
from components.training import regularisation, trainer
from components.training.encoded import Item, items


@dataclass(frozen=True)
class Pictures:
    """`learnt` holds the user's `own` first, then the regularisation pictures; `times`: how often each comes an epoch.

    `parents` and `figures` go into the manifest.
    """

    learnt: list[Item]
    own: int
    times: list[float]
    held_out: list[Item]
    parents: dict[str, str]
    figures: dict[str, float]


def read(config: TrainImage, clean: Clean, family: Family, folder: Path, sides: Sequence[int]) -> Pictures:
    """Raises `StageError` where there is nothing to learn from, or nothing to measure on."""
    multiple, wanted = family.multiple(folder), config.regularisation
    samples = {side: sample.read(SPLIT / f"{side}.parquet") for side in ("train", "validation")}
    parents, others = {"data": read_manifest(SPLIT).digest}, list[sample.Sample]()
    if wanted.share:
        unseen = [*samples["validation"], *sample.read(SPLIT / "test.parquet")]
        others = regularisation.read(wanted, clean, unseen)
        parents["regularisation"] = regularisation.digest(others)
    try:
        own, held_out = (shown(items(samples[side], sides, multiple)) for side in ("train", "validation"))
        beside = shown(items(others, sides, multiple, wanted.weight))
    except ValueError as error:
        raise StageError(f"train.image.sizes: {error}") from error
    if not own or not held_out or (others and not beside):
        raise StageError("no samples to train or evaluate on; loosen `clean` or add data")
    learnt = [*own, *beside]
    figures: dict[str, float] = {
        "samples": len({item.sample.id for item in own}),
        "masked": len({item.sample.id for item in own if item.sample.mask}),
        "buckets": len({item.cut.size for item in learnt}),
        **captions(family, folder, list(dict.fromkeys(item.sample.text for item in learnt))),
        "enlarged": enlarged(learnt),
    }
    if others:
        figures["regularisation_pictures"] = len({item.sample.id for item in beside})
    return Pictures(
        learnt, len(own), regularisation.times(len(own), len(beside), wanted.share), held_out, parents, figures
    )


def shown(pictures: list[Item]) -> list[Item]:
    """Those of which the mask leaves something; says which others there are."""
    hidden = [item for item in pictures if item.hidden]
    if hidden:
        item = hidden[0]
        height, width = item.cut.size
        say(
            f"{len(hidden)} pictures are left out, as all that is white in their mask is cropped away in their bucket: "
            f"{item.sample.meta.get('file_name', item.sample.id)} in {width}×{height}"
        )
    return [item for item in pictures if not item.hidden]


def captions(family: Family, folder: Path, texts: list[str]) -> dict[str, int]:
    """How many captions the text encoders cut, and cannot read."""
    if cut := family.cut(folder, texts):
        say(f"{cut} of {len(texts)} captions are longer than the text encoders read")
    if unread := family.unread(folder, texts):
        say(
            f"{len(unread)} captions are mostly in letters that none of the pipeline's text encoders reads, such as "
            f"{unread[0][:60]!r}: nothing is learnt from their words; translate them into English"
        )
    return {"captions_cut": cut, "captions_unread": len(unread)}


def enlarged(pictures: list[Item]) -> int:
    """How many pictures are smaller than they are trained at."""
    if count := sum(item.enlarged for item in pictures):
        say(
            f"{count} of {len(pictures)} pictures are smaller than they are trained at and are enlarged, which teaches "
            "blur: bring larger ones, or set smaller train.image.sizes"
        )
    return count


def say(words: str) -> None:
    if trainer.is_writer():
        print(f"train image: {words}", flush=True)
