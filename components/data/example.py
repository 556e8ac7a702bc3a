"""Stage `example`: a folder of pictures such as a user brings, so that the image line can be tried at once.

The drawings are OpenMoji's without their colours: a style of lines that the shipped base has never seen, of concepts of
which it knows most in colour. They are written as any user's folder is read (`metadata.jsonl`, pictures of another size
than the model's), so that the default run goes the way that a user's own pictures go.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

from components import config
from components.artifact import staged, write_text
from components.data.concept import draw
from components.data.openmoji import FLAGS, LICENCE, SVG, bare, catalogue, render
from components.data.sample import METADATA
from components.paths import ASSETS, EXAMPLE
from components.stage import StageError, run

SIZE = 128  # pixels; deliberately not the model's
LINES = frozenset({"line", "line-supplement"})  # the layers of OpenMoji's drawings that hold the black outlines
# Told apart by letters and colours, of which nothing is left.
COLOUR_ALONE = FLAGS | {"alphanum", "geometric", "skin-tone"}


def main() -> None:
    """Write the folder."""
    count = config.load().example.drawings
    with staged(EXAMPLE) as folder:
        rows = list(write_drawings(ASSETS, count, folder))
        write_text(folder / METADATA, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{EXAMPLE}: {len(rows)} line drawings of {SIZE} × {SIZE} pixels")


def write_drawings(assets: Path, count: int, folder: Path) -> Iterator[dict[str, object]]:
    """Write `count` drawings as PNG files into `folder` and give the row of each; raises `StageError` for too few."""
    drawings = {bare(path.stem): path for path in (assets / SVG).glob("*.svg")}
    plain = [entry for entry in catalogue(assets) if not entry.tone and entry.subgroup not in COLOUR_ALONE]
    entries = [entry for entry in plain if entry.hexcode in drawings]
    if len(entries) < count:
        raise StageError(f"example.drawings: {count}, but only {len(entries)} are there; lower it or fetch again")
    for entry in sorted(entries, key=lambda entry: draw(entry.hexcode, seed=0))[:count]:
        name = f"{entry.hexcode}.png"
        (folder / name).write_bytes(render(outline(drawings[entry.hexcode].read_text(encoding="utf-8")), SIZE))
        yield {"file_name": name, "text": entry.caption, "label": entry.group, **asdict(entry), "licence": LICENCE}


def outline(svg: str) -> str:
    """A drawing's SVG with its line layers alone."""
    root = ElementTree.fromstring(svg)  # noqa: S314 - as above
    for layer in list(root):
        if layer.get("id") not in LINES:
            root.remove(layer)
    return ElementTree.tostring(root, encoding="unicode")


if __name__ == "__main__":
    run(main)
