from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.config import Clean, FilterEntry
from components.data.clean import clean
from components.data.picture import encode_png, load
from components.data.sample import REJECTS, SAMPLES, SOURCES, Sample, count_slugs, first_reasons, read, write
from components.stage import StageError
from tests.components.data.rejects import read_rejects
from tests.components.data.test_picture import claiming, encoded

PARAMETERS = Clean(low_percentile=0.0, high_percentile=99.5, max_pixels=1_000_000, min_side=8)


def prepared(folder: Path, samples: list[Sample]) -> Path:
    write(folder / SAMPLES, samples)
    (folder / SOURCES).write_text('{"metadata.jsonl": "abc"}')
    return folder


def noise(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8))


def pair(identity: str, text: str, completion: str = "cake: sweet") -> Sample:
    return Sample(id=identity, text=text, meta={"completion": completion})


def reasons(folder: Path) -> dict[str, str]:
    return {reject.sample.id: reject.reason for reject in read_rejects(folder / REJECTS)}


@pytest.mark.usefixtures("assets")
def test_bad_pictures_are_rejected_beside_their_reason_and_good_ones_kept(tmp_path: Path) -> None:
    whole = noise(9)
    pictures = {
        "good": noise(1),
        "grey": encoded(Image.new("L", (20, 30), 90)),
        "clear": encoded(Image.new("RGBA", (20, 20), (1, 2, 3, 4))),
        "bomb": claiming(50_000, 50_000),
        "big": claiming(2_000, 2_000),
        "wide": encode_png(Image.new("RGB", (3_000, 10))),
        "blank": encoded(Image.new("RGBA", (20, 20), (1, 2, 3, 0))),
        "tiny": encode_png(Image.new("RGB", (1, 1))),
        "truncated": whole[: len(whole) // 2],
        "text": b"hello",
        "none": None,
    }
    samples = [Sample(id=name, text=f"picture {name}", image=data) for name, data in pictures.items()]
    assert clean("image", PARAMETERS, prepared(tmp_path / "in", samples), tmp_path / "out") == (3, 8)
    kept = read(tmp_path / "out" / SAMPLES)
    assert [sample.id for sample in kept] == ["good", "grey", "clear"]
    assert all(sample.image and sample.image.startswith(b"\x89PNG") for sample in kept)
    found = reasons(tmp_path / "out")
    expected = {
        "bomb": "exceeds",
        "big": "claims 2000×2000",
        "wide": "3000×10 pixels, narrower",
        "blank": "white throughout",
        "tiny": "1×1",
        "truncated": "cannot be decoded",
        "text": "not a picture",
        "none": "no picture",
    }
    assert found.keys() == expected.keys()
    assert all(part in found[name] for name, part in expected.items())
    assert {r.sample.id: r.sample.image for r in read_rejects(tmp_path / "out" / REJECTS)}["text"] == b"hello"


def test_empty_or_repeated_text_is_rejected_and_what_is_kept_stays_as_it_came(tmp_path: Path) -> None:
    samples = [
        pair("a", "something  sweet\n"),
        replace(pair("b", "something sweet"), source="pairs.jsonl:2"),
        pair("c", "something sweet", "honey: sweet"),
        pair("d", " \t"),
        pair("e", "something sour", "  "),
        Sample(id="f", text="something salty"),
    ]
    assert clean("text", PARAMETERS, prepared(tmp_path / "in", samples), tmp_path / "out") == (2, 4)
    assert first_reasons(tmp_path / "out" / REJECTS).startswith("pairs.jsonl:2: duplicate of a; ")
    assert first_reasons(tmp_path / "out" / REJECTS).endswith("; and 1 more")
    assert [(s.id, s.text) for s in read(tmp_path / "out" / SAMPLES)] == [
        ("a", "something  sweet\n"),
        ("c", "something sweet"),
    ]
    assert reasons(tmp_path / "out") == {
        "b": "duplicate of a",
        "d": "text is empty",
        "e": "completion is empty",
        "f": "completion is empty",
    }
    assert count_slugs(tmp_path / "out" / REJECTS) == {"empty_completion": 2, "duplicate": 1, "empty_text": 1}


def test_outliers_of_length_are_rejected_and_no_row_is_lost_or_reordered(tmp_path: Path) -> None:
    samples = [pair(f"{5000 - n}", f"something about {n:05}") for n in range(5000)]
    samples[2500] = pair("long", "x" * 100_000)
    kept, rejected = clean("text", PARAMETERS, prepared(tmp_path / "in", samples), tmp_path / "out")
    assert (kept, rejected) == (4999, 1)
    assert reasons(tmp_path / "out")["long"].startswith("text of 100011 characters, longer than 96 and far from")
    assert [s.id for s in read(tmp_path / "out" / SAMPLES)] == [s.id for s in samples if s.id != "long"]


def test_the_same_samples_give_the_same_bytes_and_nothing_else_lies_there(tmp_path: Path) -> None:
    source = prepared(tmp_path / "in", [pair(str(n), f"about {n}") for n in range(3000)])
    for name in ("one", "two"):
        clean("text", PARAMETERS, source, tmp_path / name)
    assert (tmp_path / "one" / SAMPLES).read_bytes() == (tmp_path / "two" / SAMPLES).read_bytes()
    files = sorted(path.relative_to(tmp_path / "one").as_posix() for path in (tmp_path / "one").rglob("*.*"))
    assert files == [REJECTS, SAMPLES, SOURCES]


def test_nothing_left_is_an_error_that_leaves_the_old_output(tmp_path: Path) -> None:
    good = prepared(tmp_path / "good", [pair("a", "something sweet")])
    clean("text", PARAMETERS, good, tmp_path / "out")
    with pytest.raises(StageError, match=r"all 2 samples were rejected.*text is empty"):
        clean("text", PARAMETERS, prepared(tmp_path / "bad", [pair("a", ""), pair("b", " ")]), tmp_path / "out")
    assert [sample.id for sample in read(tmp_path / "out" / SAMPLES)] == ["a"]


def test_a_missing_input_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="run the stage that makes it"):
        clean("text", PARAMETERS, tmp_path / "nowhere", tmp_path / "out")


def test_masks_that_do_not_fit_are_rejected_in_words_and_good_ones_shrink_with_their_picture(tmp_path: Path) -> None:
    clear = Image.new("LA", (3000, 1000), (255, 0))
    masks = {
        "good": encoded(Image.new("L", (3000, 1000), 200)),
        "none": None,
        "small": encoded(Image.new("L", (64, 64), 255)),
        "black": encoded(Image.new("RGB", (3000, 1000))),
        "clear": encoded(clear),
        "text": b"hello",
    }
    image = encoded(Image.new("RGB", (3000, 1000), "red"))
    samples = [Sample(name, f"a box {name}", image, mask=mask) for name, mask in masks.items()]
    parameters = PARAMETERS.model_copy(update={"max_pixels": 4_000_000})
    folder = prepared(tmp_path / "in", samples)
    assert clean("image", parameters, folder, tmp_path / "out", built_in=False) == (2, 4)
    good, none = read(tmp_path / "out" / SAMPLES)
    assert good.mask and none.mask is None
    mask = Image.open(io.BytesIO(good.mask))
    assert (mask.size, mask.mode, mask.getextrema()) == (load(good.image or b"").size, "L", (200, 200))
    expected = {
        "small": "mask of 64×64 pixels for a picture of 3000×1000: make them equally large",
        "black": "black throughout",
        "clear": "mask: it has transparent pixels",
        "text": "mask: not a picture",
    }
    found = reasons(tmp_path / "out")
    assert found.keys() == expected.keys() and all(part in found[name] for name, part in expected.items())


@pytest.mark.usefixtures("assets")
def test_the_built_in_model_says_that_it_learns_whole_pictures(tmp_path: Path) -> None:
    white = encoded(Image.new("L", (16, 16), 255))
    folder = prepared(tmp_path / "in", [Sample("a", "a box", noise(1)), Sample("b", "a cup", noise(2), mask=white)])
    assert clean("image", PARAMETERS, folder, tmp_path / "out") == (1, 1)
    assert "learns whole pictures: leave mask_file_name out" in reasons(tmp_path / "out")["b"]


def test_one_picture_under_two_masks_is_no_duplicate(tmp_path: Path) -> None:
    whole, half = (encoded(Image.new("L", (16, 16), grey)) for grey in (255, 128))
    samples = [Sample(name, "a box", noise(1), mask=mask) for name, mask in {"a": whole, "b": half, "c": half}.items()]
    assert clean("image", PARAMETERS, prepared(tmp_path / "in", samples), tmp_path / "out", built_in=False) == (2, 1)
    assert reasons(tmp_path / "out") == {"c": "duplicate of b"}


@pytest.mark.usefixtures("assets")
def test_what_is_done_to_pictures_is_said_and_animations_are_refused_where_params_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.new("RGB", (12, 12), colour) for colour in ("red", "blue")]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    samples = [Sample(id="still", text="a dog", image=noise(1)), Sample(id="moving", text="a cat", image=moving)]
    source = prepared(tmp_path / "in", samples)
    assert clean("image", PARAMETERS, source, tmp_path / "out") == (2, 0)
    assert "clean image: 1 pictures are the first of an animation" in capsys.readouterr().out
    refusing = PARAMETERS.model_copy(update={"animations": "refuse"})
    assert clean("image", refusing, source, tmp_path / "out") == (1, 1)
    assert count_slugs(tmp_path / "out" / REJECTS) == {"animation": 1}


@pytest.mark.usefixtures("assets")
def test_captions_that_the_encoder_cannot_read_are_one_finding_before_any_picture_is_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chinese = [Sample(id=f"c{n}", text=f"一只红色的狐狸{n}", image=noise(n), source=f"m:{n}") for n in range(3)]
    english = [Sample(id=f"e{n}", text=f"a fox {n}", image=noise(9 + n), source=f"m:{9 + n}") for n in range(3)]
    assert clean("image", PARAMETERS, prepared(tmp_path / "in", chinese + english), tmp_path / "out") == (3, 3)
    assert "cannot read 3 of 6 captions, the first m:0: '一只红色的狐狸0'" in capsys.readouterr().out
    monkeypatch.setattr("components.data.clean._examined", lambda *_: pytest.fail("a picture is decoded"))
    with pytest.raises(StageError, match=r"cannot read 3 of 5 captions, .*or bring a pipeline"):
        clean("image", PARAMETERS, prepared(tmp_path / "in", chinese + english[:2]), tmp_path / "out")


FILTERS = (
    FilterEntry.model_validate({"name": "personal_data", "action": "redact"}),
    FilterEntry.model_validate({"name": "words", "words": ["rude"], "action": "flag"}),
    FilterEntry.model_validate({"name": "boilerplate"}),
)


def test_filters_of_the_list_drop_flag_and_redact_and_each_sample_is_counted_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [
        pair("a", "plain", "as\n it came"),
        pair("b", "I am ann@example.com"),
        pair("c", "I am bob@example.org"),  # redacted it is the same
        pair("d", "a rude word"),
        pair("e", "lorem  ipsum of eve@example.com"),
        pair("f", " "),
    ]
    source = prepared(tmp_path / "in", samples)
    parameters = PARAMETERS.model_copy(update={"filters": FILTERS})
    assert clean("text", parameters, source, tmp_path / "out") == (3, 3)
    assert reasons(tmp_path / "out") == {
        "c": "duplicate of b",
        "e": "it holds 'lorem ipsum'",
        "f": "text is empty",
    }
    assert {(s.id, s.text, str(s.meta.get("cleaning", ""))) for s in read(tmp_path / "out" / SAMPLES)} == {
        ("a", "plain", ""),
        ("b", "I am [email]", "{'redacted': {'email': 1}}"),
        ("d", "a rude word", "{'flagged': ['words']}"),
    }
    assert read(tmp_path / "out" / SAMPLES)[0] == samples[0]
    (dropped,) = (r.sample for r in read_rejects(tmp_path / "out" / REJECTS) if r.slug == "boilerplate")
    assert dropped == samples[4]
    said = capsys.readouterr().out
    assert "clean text: 1 samples have [email] in place of what was there" in said
    assert "clean text: 1 samples are flagged as words, and stay" in said and "example.com" not in said


def test_of_nearly_equal_samples_the_best_stays_where_params_say_so(tmp_path: Path) -> None:
    text = "a rocket flies to the moon and back again on a quiet night"
    samples = [pair("a", text), pair("b", f"{text}."), pair("c", "a fox in the snow"), pair("d", f"{text}.")]
    source = prepared(tmp_path / "in", samples)
    assert clean("text", PARAMETERS, source, tmp_path / "out") == (3, 1)
    parameters = PARAMETERS.model_copy(update={"near_duplicates": 0.8})
    assert clean("text", parameters, source, tmp_path / "out") == (2, 2)
    assert reasons(tmp_path / "out") == {"a": "nearly the same as b, which stays", "d": "duplicate of b"}
    assert count_slugs(tmp_path / "out" / REJECTS) == {"near_duplicate": 1, "duplicate": 1}
    large = Image.open(io.BytesIO(noise(1))).resize((64, 64), Image.Resampling.NEAREST)
    pictures = [Sample(name, f"a box {name}", noise(n)) for name, n in (("e", 1), ("f", 2))]
    source = prepared(tmp_path / "pictures", [*pictures, Sample("g", "a large box", encode_png(large))])
    assert clean("image", parameters, source, tmp_path / "out", built_in=False) == (2, 1)
    assert reasons(tmp_path / "out") == {"e": "nearly the same as g, which stays"}


def test_personal_data_that_is_dropped_is_never_said(tmp_path: Path) -> None:
    samples = [pair("a", "plain"), pair("b", "I am ann@example.com, DE89370400440532013000")]
    parameters = PARAMETERS.model_copy(update={"filters": (FilterEntry(name="personal_data"),)})
    assert clean("text", parameters, prepared(tmp_path / "in", samples), tmp_path / "out") == (1, 1)
    assert reasons(tmp_path / "out") == {"b": "it holds personal data: 1 × email, 1 × iban"}
    assert read_rejects(tmp_path / "out" / REJECTS)[0].sample == samples[1]


def test_captions_and_pictures_pass_the_filters_of_the_image_lines_list(tmp_path: Path) -> None:
    blank = encode_png(Image.new("RGB", (16, 16), "navy"))
    samples = [
        Sample("a", "a box", noise(1)),
        Sample("b", "a box", blank),
        Sample("c", "a rude box", noise(2)),
        Sample("d", "a box", encode_png(np.asarray(Image.open(io.BytesIO(noise(3))))[:5])),
    ]
    entries = [{"name": "words", "words": ["rude"]}, {"name": "blank"}, {"name": "aspect"}, {"name": "blurred"}]
    filters = tuple(map(FilterEntry.model_validate, entries))
    parameters = PARAMETERS.model_copy(update={"filters": filters, "min_side": 4})
    source = prepared(tmp_path / "in", samples)
    assert clean("image", parameters, source, tmp_path / "out", built_in=False) == (1, 3)
    assert count_slugs(tmp_path / "out" / REJECTS) == {"blank": 1, "words": 1, "aspect": 1}
    with pytest.raises(StageError, match=r"clean\.text\.filters\.1\.name: there is no filter blank"):
        clean("text", parameters, source, tmp_path / "out")
