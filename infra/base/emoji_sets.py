"""OpenMoji and other artists' drawings of its concepts, for those who make the base and the judge: by hand, seldom.

The others come as npm packages by the ordinary `npm` client; who only runs the pipeline needs none of them.
docs/licences.md holds their licences. OpenMoji in colour is split here with parameters of its own, whatever the image
line learns from: `data/image/openmoji`. Writes `data/image/styles`: `train.parquet` (OpenMoji's training side and the
sets the base learns from too, each picture with its style and OpenMoji's caption of the same concept),
`judged.parquet` (the sets that the judge alone learns from) and `held_out.parquet` (OpenMoji's test side, `meta.unseen`
telling the two kinds of held-out apart: a concept that no artist's drawing was seen of, and a combination of a known
concept with OpenMoji's style).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from components.artifact import Manifest, seal, staged, verify
from components.config import Clean, Prepare, Split
from components.data import openmoji, sample
from components.data.clean import clean
from components.data.concept import draw
from components.data.picture import PictureError, crop_to_drawing, encode_png, fit, load
from components.data.prepare import prepare
from components.data.sample import Sample
from components.data.split import split
from components.paths import ASSETS, DATA
from components.stage import StageError, run

PACKAGES = DATA / "emoji-sets"
OPENMOJI = DATA / "image/openmoji"
STYLES = DATA / "image/styles"
OWN_STYLE = "openmoji"
SIZE = 64  # pixels
UNSEEN_SHARE = 0.5  # of the concepts OpenMoji's test side holds: seen in no style at all

# Decide what the shipped base and judge have never seen: with other values they could not be measured any more.
PREPARE = Prepare(source="openmoji", path=ASSETS, size=SIZE)
CLEAN = Clean(low_percentile=0.0, high_percentile=99.5, max_pixels=2**24, min_side=8)
SPLIT = Split(seed=7, validation=0.05, test=0.1, near_duplicate_similarity=0.97)

ICONS = "package/icons.json"  # iconify's form: SVG bodies by the emoji's English name
NAMES = "package/chars.json"  # iconify's table of code points to names, which one of its packages has


@dataclass(frozen=True)
class EmojiSet:
    """An npm package pinned by version and integrity, and its drawings: files named by code points, or `ICONS`."""

    package: str
    version: str
    sha512: str
    drawings: str
    licence: str


def _iconify(name: str, version: str, sha512: str, licence: str) -> EmojiSet:
    return EmojiSet(f"@iconify-json/{name}", version, sha512, ICONS, licence)


BASE_SETS = {
    "noto": EmojiSet(
        "emoji-datasource-google",
        "16.0.0",
        "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
        "package/img/google/64/*.png",
        "Apache-2.0, Noto Emoji, Google",
    ),
    "twemoji": EmojiSet(
        "emoji-datasource-twitter",
        "16.0.0",
        "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
        "package/img/twitter/64/*.png",
        "CC BY 4.0, Twemoji, Twitter",
    ),
    "fluent": EmojiSet(
        "@lobehub/fluent-emoji-flat",
        "1.1.0",
        "lPYCg8+N56MIj+iOgeBeH6AF0tneXxJCvgi41rOTjAWpA5rU2WUcmU1fiIXouEe8GrSTarWCYLY2ML+rdLRHsg==",
        "package/assets/*.svg",
        "MIT, Fluent Emoji, Microsoft",
    ),
}
JUDGE_SETS = {
    "fluent-high-contrast": _iconify(
        "fluent-emoji-high-contrast",
        "1.2.6",
        "esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
        "MIT, Fluent Emoji, Microsoft",
    ),
    "fluent-shaded": _iconify(
        "fluent-emoji",
        "1.2.7",
        "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        "MIT, Fluent Emoji, Microsoft",
    ),
    "noto-v1": _iconify(
        "noto-v1",
        "1.2.5",
        "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        "Apache-2.0, Noto Emoji v1, Google",
    ),
    "emojitwo": _iconify(
        "emojione",
        "1.2.3",
        "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        "CC BY 4.0, Emojitwo (Emoji One 2)",
    ),
    "emojione": _iconify(
        "emojione-v1",
        "1.2.3",
        "UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+ww==",
        "CC BY-SA 4.0, Emoji One 1",
    ),
    "firefox": _iconify(
        "fxemoji",
        "1.2.2",
        "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        "Apache-2.0, Firefox OS Emoji, Mozilla",
    ),
    "streamline": _iconify(
        "streamline-emojis",
        "1.2.4",
        "iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
        "CC BY 4.0, Streamline Emojis, Streamline",
    ),
}
NAMED_BY = "fluent-high-contrast"  # holds `NAMES`


def unseen(concept: str) -> bool:
    """Whether a concept of OpenMoji's test side is held out of every other style too."""
    return draw(concept, seed=1) < UNSEEN_SHARE


def download(emoji_set: EmojiSet, folder: Path) -> Path:
    """The unpacked package below `folder`, fetched once by npm; raises `StageError` where its integrity differs."""
    target = folder / emoji_set.package.replace("/", "-").removeprefix("@")
    if target.is_dir():
        return target
    with staged(target) as partial:
        command = ["npm", "pack", "--silent", "--pack-destination", str(partial)]
        done = subprocess.run([*command, f"{emoji_set.package}@{emoji_set.version}"], capture_output=True, check=False)
        archives = list(partial.glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise StageError(f"{emoji_set.package}: npm pack failed: {done.stderr.decode(errors='replace')[-300:]}")
        found = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
        if found != emoji_set.sha512:
            raise StageError(f"{emoji_set.package} {emoji_set.version}: integrity sha512-{found} is not the pinned one")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(partial, filter="data")
        archives[0].unlink()
    return target


def drawings(style: str, emoji_set: EmojiSet, names: dict[str, openmoji.Entry]) -> Iterator[Sample]:
    """One sample per concept that the set has drawn and `names` knows, by code point or by squeezed name."""
    package = download(emoji_set, PACKAGES)
    seen: set[str] = set()
    for name, drawing in _files(package, emoji_set):
        entry = names.get(name)
        if entry is None or entry.hexcode in seen:
            continue
        try:
            picture = openmoji.render(drawing, SIZE) if isinstance(drawing, str) else _recut(drawing)
        except (ValueError, PictureError):  # a handful of damaged drawings; the count that is printed shows it
            continue
        seen.add(entry.hexcode)
        meta = {**asdict(entry), "style": style, "licence": emoji_set.licence}
        yield Sample(f"{style}-{entry.hexcode}", entry.caption, picture, entry.group, emoji_set.package, meta=meta)


def _files(package: Path, emoji_set: EmojiSet) -> Iterator[tuple[str, str | bytes]]:
    """Code point or squeezed name, and the SVG's text or the PNG's bytes."""
    if emoji_set.drawings == ICONS:
        table = json.loads((package / ICONS).read_bytes())
        for name, icon in sorted(table["icons"].items()):
            width, height = (icon.get(side, table.get(side, 16)) for side in ("width", "height"))
            body = f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
            yield (
                _squeezed(name),
                f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {body}',
            )
        return
    for path in sorted(package.glob(emoji_set.drawings)):
        vector = path.suffix == ".svg"
        yield openmoji.bare(path.stem), path.read_text(encoding="utf-8") if vector else path.read_bytes()


def emoji_by_name() -> dict[str, openmoji.Entry]:
    """OpenMoji's entries by code point, by name and by iconify's name; flags and skin tones left out."""
    kept = [e for e in openmoji.catalogue(ASSETS) if not e.tone and e.subgroup not in openmoji.FLAGS]
    names = {_squeezed(entry.name): entry for entry in kept} | {entry.hexcode: entry for entry in kept}
    package = download(JUDGE_SETS[NAMED_BY], PACKAGES)
    for hexcode, name in json.loads((package / NAMES).read_bytes()).items():
        if entry := names.get(openmoji.bare(hexcode)):
            names[_squeezed(name)] = entry
    return names


def _squeezed(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _recut(png: bytes) -> bytes:
    return encode_png(fit(crop_to_drawing(load(png)), SIZE))


def split_openmoji(folder: Path) -> Manifest:
    """OpenMoji in colour, prepared, cleaned and split below `folder`; needs what the stage `fetch` brings."""
    prepare("image", PREPARE, folder / "prepared")
    clean("image", CLEAN, folder / "prepared", folder / "clean")
    split("image", SPLIT, folder / "clean", folder / "split")
    return verify(folder / "split")


def own(side: str) -> list[Sample]:
    """OpenMoji's samples of one side of the split, without skin tones."""
    kept = [s for s in sample.read(OPENMOJI / "split" / f"{side}.parquet") if not s.meta.get("tone")]
    return [replace(s, meta={**s.meta, "style": OWN_STYLE}) for s in kept]


def main() -> None:
    """Write `data/image/styles` from the fetched packages."""
    data = split_openmoji(OPENMOJI)
    held_out = own("test")
    held_out = [replace(s, meta={**s.meta, "unseen": unseen(s.meta["concept"])}) for s in held_out]
    never = {s.meta["concept"] for s in held_out if s.meta["unseen"]}
    names = emoji_by_name()
    drawn = {"train": own("train"), "judged": []}
    for side, sets in (("train", BASE_SETS), ("judged", JUDGE_SETS)):
        for style, emoji_set in sets.items():
            kept = [s for s in drawings(style, emoji_set, names) if s.meta["concept"] not in never]
            drawn[side] += kept
            print(f"{style}: {len(kept)} pictures")
    with staged(STYLES) as folder:
        for side, samples in (drawn | {"held_out": held_out}).items():
            sample.write(folder / f"{side}.parquet", samples)
        packages = {style: json.dumps(asdict(emoji_set)) for style, emoji_set in (BASE_SETS | JUDGE_SETS).items()}
        pictures = {side: len(samples) for side, samples in drawn.items()}
        seal(folder, line="image", kind="styles", parents={"data": data.digest}, parameters=packages, metrics=pictures)
    print(f"held out: {sum(not s.meta['unseen'] for s in held_out)} combinations, {len(never)} unseen concepts")


if __name__ == "__main__":
    run(main)
