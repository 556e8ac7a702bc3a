"""A pipeline served by OpenVINO GenAI paints what diffusers paints, and says what it cannot read or paint."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from components.artifact import ArtifactError, seal
from components.runtimes.base import ImageRequest, NotFiniteError
from components.runtimes.image import load_image, load_pipeline, load_sampler
from components.runtimes.pipeline import DESCRIPTION, PipelineRuntime, TorchNoise, cut
from tests.conftest import ROOT, TinyPipeline

REQUESTS = [ImageRequest("a red apple", 3, 4, 3.5), ImageRequest("a dog", 4, 2, 1.0), ImageRequest("", 5, 3, 7.0)]


def test_it_paints_what_diffusers_paints_at_every_step(tiny_pipeline: TinyPipeline) -> None:
    from components.runtimes.reference import trajectory

    runtime = load_image(tiny_pipeline.export, "openvino")
    assert isinstance(runtime, PipelineRuntime)
    reference = tiny_pipeline.family.read(tiny_pipeline.base)
    for request in [
        *REQUESTS,
        ImageRequest(runtime.shared_part("an apple " * 20), 6, 2, 2.0),
        ImageRequest("a cat", 7, 2, 2.0, size=32),
        ImageRequest("a cat", 8, 9, 2.0),  # from the seventh step on the engine would extrapolate
    ]:
        latents, picture = runtime.trajectory(request)
        expected, expected_picture = trajectory(reference, request, 64)
        for one, other in zip(latents, expected, strict=True):
            assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()
        assert np.abs(picture.astype(int) - expected_picture).max() <= 1


def test_a_picture_is_the_same_alone_in_a_batch_and_after_others(tiny_pipeline: TinyPipeline) -> None:
    runtime = load_image(tiny_pipeline.export, "openvino")
    together = runtime.generate(REQUESTS)
    alone = [runtime.generate([request])[0] for request in reversed(REQUESTS)][::-1]
    assert all((one == other).all() for one, other in zip(together, alone, strict=True))
    assert not (together[0] == together[1]).all()


def test_the_golden_pictures_are_painted(tiny_pipeline: TinyPipeline) -> None:
    requests = json.loads((tiny_pipeline.export / "golden/golden.json").read_bytes())["requests"]
    golden = np.load(tiny_pipeline.export / "golden/golden.npz", allow_pickle=False)
    painted = load_image(tiny_pipeline.export, "openvino").generate([ImageRequest(**request) for request in requests])
    assert np.abs(np.stack(painted).astype(int) - golden["pictures"]).max() <= 1


@pytest.mark.parametrize("prompt", ["a " * 40, "apple " * 40, "x" * 100, "日本の林檎 " * 9, "an apple, " * 9])
def test_what_is_read_of_a_long_prompt_fits_and_ends_with_a_word(tiny_pipeline: TinyPipeline, prompt: str) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_pipeline.base / "tokenizer/tokenizer.json"))
    part = cut(tokenizer, 16, prompt)
    assert prompt.startswith(part)
    assert 0 < len(part) < len(prompt)
    assert len(tokenizer.encode(part)) <= 16
    assert " " not in part or prompt[len(part)] == " "


def test_a_prompt_without_spaces_is_not_cut_back_to_its_first_word(tiny_pipeline: TinyPipeline) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_pipeline.base / "tokenizer/tokenizer.json"))
    assert len(cut(tokenizer, 77, "a " + "林檎" * 40)) > 20
    assert len(cut(tokenizer, 400, "a " + "林檎" * 100)) > 100


def test_it_says_what_it_read_of_a_prompt_that_no_encoder_reads_whole(tiny_pipeline: TinyPipeline) -> None:
    runtime = load_image(tiny_pipeline.export, "openvino")
    prompt = "an apple " * 100
    part = runtime.read_part(prompt)
    assert part and len(part) < len(prompt) and prompt.startswith(part)
    assert runtime.read_part("a red apple") is None
    short, long = runtime.generate([ImageRequest(part, 1, 2, 2.0), ImageRequest(prompt, 1, 2, 2.0)])
    assert (short == long).all()


@pytest.mark.parametrize("engine", ["pytorch", "onnxruntime"])
def test_another_engine_is_refused(tiny_pipeline: TinyPipeline, engine: str) -> None:
    with pytest.raises(ArtifactError, match=f"exported for openvino; there is nothing here for {engine}"):
        load_image(tiny_pipeline.export, engine)  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="holds a pipeline"):
        load_sampler(tiny_pipeline.export, "openvino")


def test_a_damaged_folder_is_refused(tiny_pipeline: TinyPipeline, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(tiny_pipeline.export, folder)
    (folder / "pipeline/model_index.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"model_index\.json was changed"):
        load_image(folder, "openvino")
    seal(folder, line="image", kind="export", parents={}, parameters={}, metrics={})
    with pytest.raises(ArtifactError, match="OpenVINO GenAI cannot load it"):
        load_image(folder, "openvino")
    (folder / DESCRIPTION).write_text('{"size": 64}')
    with pytest.raises(ArtifactError, match=f"no readable {DESCRIPTION}"):
        load_pipeline(folder)


def test_output_that_is_not_finite_is_no_picture(tiny_pipeline: TinyPipeline, tmp_path: Path) -> None:
    """Every large weight of the network is NaN, as after an overflow in training."""
    folder = tmp_path / "export"
    shutil.copytree(tiny_pipeline.export, folder)
    graph = folder / f"pipeline/{tiny_pipeline.family.network_name}/openvino_model.xml"
    constants = re.findall(r'<data element_type="f32" shape="[^"]*" offset="(\d+)" size="(\d+)"', graph.read_text())
    with graph.with_suffix(".bin").open("r+b") as weights:
        for offset, size in constants:
            if int(size) > 4000:
                weights.seek(int(offset))
                weights.write(np.full(int(size) // 4, np.nan, np.float32).tobytes())
    with pytest.raises(NotFiniteError, match="2 of 2 pictures came out NaN") as caught:
        load_pipeline(folder).generate(REQUESTS[:2])
    assert caught.value.pictures == [None, None]


def test_a_seed_gives_the_noise_of_torch_draw_after_draw() -> None:
    import torch

    for seed in (0, 7, 2**32 - 1):
        noise, generator = TorchNoise(seed), torch.Generator().manual_seed(seed)
        for shape in ((1, 4, 8, 10), (1, 16, 4, 4)):
            assert np.abs(noise.draw(shape) - torch.randn(shape, generator=generator).numpy()).max() < 1e-6


@pytest.mark.parametrize("tiny_pipeline", ["sdxl"], indirect=True)
def test_a_picture_takes_no_torch(tiny_pipeline: TinyPipeline) -> None:
    """A Bento has none."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from components.runtimes.base import ImageRequest\n"
        "from components.runtimes.image import load_pipeline\n"
        "runtime = load_pipeline(Path(sys.argv[1]))\n"
        "print(runtime.generate([ImageRequest('a cat', 1, 2, 2.0)])[0].shape)"
    )
    command = [sys.executable, "-c", code, str(tiny_pipeline.export)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "(64, 64, 3)", ended.stderr
