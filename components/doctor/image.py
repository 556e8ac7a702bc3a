"""The image line's source: each picture as the network will see it, its caption as far as it is read, and faults."""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from components.config import Params
from components.data import picture
from components.data.clean import TOKENIZER
from components.data.filters import Candidate, Chosen
from components.data.picture_rules import Blank, Blurred
from components.data.sample import Sample
from components.data.text_rules import script_of
from components.doctor import common, suspicion
from components.doctor.drawn import Drawn
from components.doctor.judged import Judged
from components.doctor.report import Caption, Finding, Picture, Report, Severity, Shown
from components.doctor.suspicion import Check
from components.models.brought import Source
from components.stage import StageError

SHOWN = 24  # pictures on the page, and as many again of those that something is wrong with
THUMBNAIL = 160  # pixels
_PADDED = 0.6  # of what the network sees is white, added around the picture


class Network(ABC):
    """What a network that is trained makes of a picture and of its caption."""

    size: int  # pixels of the side of a square of the largest area that it is trained at

    @abstractmethod
    def sees(self, sample: Sample) -> tuple[Image.Image, str]:
        """The picture as the network gets it, and what was done to it in words."""

    @abstractmethod
    def reads(self, caption: str) -> list[Caption]:
        """What each text encoder reads of a caption."""

    def findings(self, samples: Sequence[Sample], drawn: Drawn) -> Iterator[Finding]:
        """What is wrong with what it gets and reads of these."""
        cut = [sample for sample in samples if any(read.cut for read in self.reads(sample.text))]
        if cut:
            share = len(cut) / len(samples)
            words = f"{drawn.about(len(cut))} captions are longer than the text encoder reads ({share:.0%})"
            yield Finding(
                "look", words, "say what matters first: nothing is learnt from the end", len(cut), (cut[0].text,)
            )


class BuiltIn(Network):
    def __init__(self, params: Params) -> None:
        from tokenizers import Tokenizer

        self.size, self.tokens = params.train.image.model.size, params.train.image.model.text_tokens
        self.style = params.train.image.style
        self.tokenizer = Tokenizer.from_file(str(TOKENIZER))
        self.tokenizer.encode_special_tokens = True  # as the text encoder has them: in a caption they are letters
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def sees(self, sample: Sample) -> tuple[Image.Image, str]:
        image = picture.load(sample.image or b"")
        padded = 1 - min(image.size) / max(image.size)
        words = f", {padded:.0%} of it white around the picture" if padded > 0.01 else ""
        return picture.fit(image, self.size), f"{self.size} × {self.size}{words}"

    def reads(self, caption: str) -> list[Caption]:
        from components.runtimes.image import led

        text = led(caption, self.style)
        ends = [end for _, end in self.tokenizer.encode(text).offsets[1:-1]]
        reach = len(text) if len(ends) <= self.tokens - 2 else ends[self.tokens - 3]
        return [Caption("MiniLM", text[:reach], text[reach:])]


class Brought(Network):
    """A pipeline in a folder of this machine; reads its configurations and tokenizers alone."""

    def __init__(self, folder: Path, params: Params) -> None:
        from components.models.pipelines import family_of

        self.folder, self.family = folder, family_of(folder)
        self.sides = params.train.image.sizes or (self.family.native_size(folder),)
        self.size, self.multiple = max(self.sides), self.family.multiple(folder)
        self.tokenizers = dict(self.family.tokenizers(folder))

    def sees(self, sample: Sample) -> tuple[Image.Image, str]:
        from components.training.encoded import fitted, items

        (item,) = items([sample], [self.size], self.multiple)
        seen = fitted(picture.load(sample.image or b""), item.cut, Image.Resampling.LANCZOS)
        if sample.mask:
            mask = fitted(picture.load_mask(sample.mask), item.cut, Image.Resampling.BILINEAR)
            seen = Image.composite(seen, Image.blend(seen, Image.new("RGB", seen.size, (200, 30, 60)), 0.7), mask)
        height, width = item.cut.size
        lost = 1 - height * width / (item.cut.resized[0] * item.cut.resized[1])
        words = [f"{width} × {height}", *([f"{lost:.0%} cropped"] if lost > 0.005 else [])]
        words += ["enlarged"] * item.enlarged + ["with its mask: red is not learnt"] * bool(sample.mask)
        return seen, ", ".join(words + ["left out: its mask leaves nothing"] * item.hidden)

    def reads(self, caption: str) -> list[Caption]:
        found = []
        for name, tokenizer in self.tokenizers.items():
            most = self.family.longest.get(name, tokenizer.model_max_length)
            read = tokenizer([caption], truncation=True, max_length=most, return_offsets_mapping=True)
            whole = len(tokenizer([caption], truncation=True, max_length=most + 1).input_ids[0]) <= most
            reach = len(caption) if whole else max((end for _, end in read.offset_mapping[0]), default=0)
            found.append(Caption(name, caption[:reach], caption[reach:]))
        return found

    def findings(self, samples: Sequence[Sample], drawn: Drawn) -> Iterator[Finding]:
        """Also what is lost in a bucket, and what no encoder reads."""
        from components.training.encoded import items

        yield from super().findings(samples, drawn)
        unread = self.family.unread(self.folder, list(dict.fromkeys(sample.text for sample in samples)))
        if unread:
            share = sum(sample.text in set(unread) for sample in samples) / len(samples)
            words = f"{share:.0%} of the captions are mostly in letters that none of the pipeline's text encoders reads"
            severity: Severity = "ruins" if share > common.HALF else "look"
            yield Finding(severity, words, "translate them into English", len(unread), (unread[0][:80],))
        cut = items(samples, [self.size], self.multiple)
        if hidden := [item for item in cut if item.hidden]:
            words = (
                f"{drawn.about(len(hidden))} are left out: what is white in the mask is cropped away in their bucket"
            )
            yield Finding("look", words, "crop the picture around it", len(hidden), (hidden[0].sample.source,))
        if enlarged := [item for item in cut if item.enlarged]:
            words = (
                f"{drawn.about(len(enlarged))} pictures are smaller than they are trained at: enlarging teaches blur"
            )
            remedy = "bring larger ones, or set smaller train.image.sizes"
            yield Finding("look", words, remedy, len(enlarged), (enlarged[0].sample.source,))


def network_of(params: Params) -> Network | None:
    """What is trained, None where it is not on this machine yet; raises `StageError` for what is no pipeline."""
    if params.base.image.is_built_in:
        return BuiltIn(params)
    from components.models.brought_pipeline import refuse

    folder = Source.of(params.base.image.model, "image").folder
    if not folder.is_dir():
        return None
    refuse(folder, params.base.image.licence)
    return Brought(folder, params)


def examine(drawn: Drawn, judged: Judged, params: Params) -> Report:
    """The report of a sample that the stages have judged."""
    report = common.begin("image", drawn, judged, params)
    report.findings += common.of_repetitions("image", drawn, judged, params)
    report.alike = list(common.repetitions("image", drawn, judged, params, shown))
    report.scripts = dict(Counter(s for sample in judged.kept if (s := script_of(sample.text))).most_common())
    try:
        network = network_of(params)
    except StageError as error:
        report.findings.append(Finding("ends", f"train_image would end: {error}"))
        return report
    usual = suspicion.Usual.of([sample.text for sample in judged.kept])
    side = network.size if network else 0
    report.suspects, found = common.suspects(
        judged.kept, lambda sample: [*suspicion.of_caption(sample.text, usual), *of_picture(sample, side)], drawn, shown
    )
    report.findings += found
    if network is None:
        remedy = "run `atelier pipeline run base_image`, then the doctor again"
        report.findings.append(Finding("note", f"{params.base.image.model} is not on this machine yet", remedy))
    elif judged.kept:
        _seen(report, network, drawn, judged, params)
    return report


def _seen(report: Report, network: Network, drawn: Drawn, judged: Judged, params: Params) -> None:
    report.findings += network.findings(judged.kept, drawn)
    settings = params.train.image.decided(built_in=params.base.image.is_built_in)
    report.findings.append(common.passes(settings, sum(s.split in ("", "train") for s in judged.kept), drawn))
    given = {sample.id: sample for sample in judged.prepared}
    sides = [max(_size(sample)) for sample in judged.kept]
    report.histograms.append(common.histogram("Longer side of the pictures", "pixels", sides, network.size))
    lengths = [len(sample.text) for sample in judged.kept]
    report.histograms.append(common.histogram("Length of the captions", "characters", lengths))
    cut = [sample for sample in judged.kept if any(read.cut for read in network.reads(sample.text))]
    masked = [sample for sample in judged.kept if sample.mask]
    chosen = {sample.id: sample for sample in [*masked[: SHOWN // 3], *cut[: SHOWN // 3], *judged.kept[:SHOWN]]}
    report.pictures = [_picture(network, sample, given.get(sample.id, sample)) for sample in chosen.values()]


def _picture(network: Network, sample: Sample, given: Sample) -> Picture:
    seen, words = network.sees(sample)
    width, height = _size(given)
    place = str(sample.meta.get("file_name", sample.source))
    return Picture(
        place, _thumbnail(given.image), _uri(seen), f"{width} × {height} → {words}", network.reads(sample.text)
    )


def of_picture(sample: Sample, side: int) -> list[Check]:
    """What is suspect of a picture that is trained at squares of `side` pixels, 0 where that is not known."""
    image = picture.load(sample.image or b"")
    candidate = Candidate(sample.text)
    candidate.picture = image
    rules: tuple[tuple[Chosen, float], ...] = ((Blank(), 3), (Blurred(), 2))
    faults = ((rule, weight, rule.fault(candidate)) for rule, weight in rules)
    found: list[Check] = [(rule.name, weight, fault) for rule, weight, fault in faults if fault][:1]
    if side and max(image.size) < side / 2:
        found.append(("tiny", 1.5, f"the picture has {image.width} × {image.height} pixels, and is trained at {side}"))
    if min(image.size) < (1 - _PADDED) * max(image.size):
        found.append(("narrow", 1, f"the picture is {image.width} × {image.height}: much of it is cropped or padded"))
    return found


def shown(sample: Sample) -> Shown:
    place = str(sample.meta.get("file_name", sample.source))
    return Shown(place, {"caption": common.shortened(sample.text)}, _thumbnail(sample.image))


def _size(sample: Sample) -> tuple[int, int]:
    """Width and height; 0 of what is no picture."""
    try:
        with Image.open(io.BytesIO(sample.image or b""), formats=picture.FORMATS) as image:
            return image.size
    except (OSError, ValueError, SyntaxError):
        return 0, 0


def _thumbnail(data: bytes | None) -> str:
    """A small picture; nothing of what cannot be decoded."""
    try:
        return _uri(picture.load(data or b""))
    except picture.PictureError:
        return ""


def _uri(image: Image.Image) -> str:
    image = image.copy()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
