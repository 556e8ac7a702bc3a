"""The sampler paints what its requests say, alone or in a batch, and the same on every engine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor, nn

from components.artifact import ArtifactError, seal, write_text
from components.runtimes import image
from components.runtimes.base import Floats, ImageRequest, ImageRuntime, NotFiniteError
from components.runtimes.image import Engine, Sampler, Solver, load_image, load_sampler, starting_noise
from components.runtimes.pytorch import PyTorchBackend
from tests.tiny_image import SHAPE, StraightBackend, tiny_denoiser

ENGINES = get_args(Engine)
MIXED = [
    ImageRequest("red apple", seed=1, steps=3, guidance=3.0),
    ImageRequest("blue dog", seed=2, steps=7, guidance=1.0),
    ImageRequest("", seed=3, steps=5, guidance=2.0),
]


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_perfect_model_reaches_its_picture_in_any_number_of_steps(steps: int) -> None:
    (picture,) = Sampler(StraightBackend(), 4).generate([ImageRequest("red", 0, steps, 1.0)])
    assert picture.shape == (4, 4, 3) and picture.dtype == np.uint8
    assert (picture == [255, 0, 0]).all()


@pytest.mark.parametrize("solver", get_args(Solver))
@pytest.mark.parametrize("steps", [10, 20, 50, 100, 1000])
def test_13_a_perfect_network_reaches_its_picture_however_many_steps_it_takes(steps: int, solver: Solver) -> None:
    encoder = StraightBackend()

    class Perfect(nn.Module):
        """Predicts the picture that its caption's state is the colour of, as a transformer of diffusers' does."""

        def forward(self, latents_BCHW: Tensor, encoder_hidden_states: Tensor, **others: object) -> tuple[Tensor]:
            return (encoder_hidden_states[:, 0, :3, None, None].expand_as(latents_BCHW),)

    class Backend(PyTorchBackend):
        def encode(self, prompts: Sequence[str]) -> tuple[Floats, Floats]:
            return encoder.encode(prompts)

    network = tiny_denoiser()
    network.transformer = Perfect()
    sampler = Sampler(Backend(network, None), SHAPE.size, solver)  # type: ignore[arg-type]
    red, black = sampler.generate([ImageRequest(prompt, 7, steps, 3.5) for prompt in ("red", "dog")])
    assert (red == [255, 0, 0]).all() and (black == 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_13_every_engine_s_last_step_ends_at_the_picture_it_predicts(engine: Engine, tiny_image_export: Path) -> None:
    backend = load_sampler(tiny_image_export, engine).backend
    golden = np.load(tiny_image_export / "golden" / "golden.npz", allow_pickle=False)
    latents, text, mask = (golden[name][:1] for name in ("latents", "text", "mask"))
    ends = []
    for time in (0.001, 0.01, 0.04, 0.06):
        time_B = np.array([time], np.float32)
        ends.append(latents - time * backend.velocity(latents, time_B, text, mask))
    # Time moves what the network predicts by little; a velocity that is not the prediction's leaves the noise there.
    assert max(np.abs(end - ends[-1]).max() for end in ends) < 0.2 * np.abs(latents - ends[-1]).max()


def test_halving_the_step_quarters_the_error_of_the_second_order_solver_and_halves_euler_s() -> None:
    class Curved(StraightBackend):
        """velocity = x / 2, whose path from noise ends at noise / √e."""

        def velocity(self, latents_BCHW, time_B, text_BLD, mask_BL):  # type: ignore[no-untyped-def]
            return latents_BCHW * 0.5

    exact = starting_noise(0, 4) * np.exp(-0.5)
    errors: dict[str, list[float]] = {}
    for solver in get_args(Solver):
        for steps in (20, 40):
            painted = painted_exactly(Sampler(Curved(), 4, solver), ImageRequest("red", 0, steps, 1.0))
            errors.setdefault(solver, []).append(float(np.abs(painted - exact).max()))
    assert errors["euler"][0] / errors["euler"][1] == pytest.approx(2, rel=0.1)
    assert errors["multistep"][0] / errors["multistep"][1] == pytest.approx(4, rel=0.1)


def painted_exactly(sampler: Sampler, request: ImageRequest) -> Floats:
    """A picture before it is rounded to 8 bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image, "to_picture", lambda x_CHW: x_CHW.copy())
        (picture,) = sampler.generate([request])
    return picture  # type: ignore[return-value]


def test_only_guided_samples_pay_for_an_unconditional_half_and_finished_ones_for_nothing() -> None:
    backend = StraightBackend()
    Sampler(backend, 4).generate([ImageRequest("red", 0, 1, 3.0), ImageRequest("red", 0, 2, 1.0)])
    assert backend.batches == [3, 1]


def test_guidance_moves_away_from_the_empty_prompt() -> None:
    class Faint(StraightBackend):
        def encode(self, prompts):  # type: ignore[no-untyped-def]
            states, mask = super().encode(prompts)
            return states * 0.25, mask

    plain, guided = Sampler(Faint(), 4).generate([ImageRequest("red", 0, 4, g) for g in (1.0, 2.0)])
    assert (guided[..., 0] > plain[..., 0]).all() and (guided[..., 1] == plain[..., 1]).all()


def test_no_requests_give_no_pictures() -> None:
    assert Sampler(StraightBackend(), 4).generate([]) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_of_mixed_requests_paints_what_each_would_alone(engine: Engine, tiny_image_export: Path) -> None:
    runtime = load_image(tiny_image_export, engine)
    for together, request in zip(runtime.generate(MIXED), MIXED, strict=True):
        (alone,) = runtime.generate([request])
        assert np.abs(together.astype(int) - alone).max() <= 2  # sums of another batch size round differently


# OpenVINO may run in bf16, whose error random weights, guidance and extrapolation over 3 steps magnify.
@pytest.mark.parametrize(("engine", "tolerance"), [("onnxruntime", 1), ("openvino", 40)])
def test_engines_paint_what_the_reference_paints(engine: Engine, tolerance: int, tiny_image_export: Path) -> None:
    expected = load_image(tiny_image_export, "pytorch").generate(MIXED)
    for picture, reference in zip(load_image(tiny_image_export, engine).generate(MIXED), expected, strict=True):
        assert np.abs(picture.astype(int) - reference).max() <= tolerance


def test_seed_and_prompt_decide_the_picture(tiny_image_export: Path) -> None:
    runtime = load_image(tiny_image_export, "onnxruntime")
    first, again, other_seed, other_prompt = runtime.generate(
        [ImageRequest(p, s, 3, 5.0) for p, s in (("red dog", 1), ("red dog", 1), ("red dog", 2), ("blue heart", 1))]
    )
    assert (first == again).all()
    assert (first != other_seed).any() and (first != other_prompt).any()


def test_a_changed_file_is_refused_by_name(tiny_image_export: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(tiny_image_export, tmp_path / "export")
    with (damaged / "denoiser" / "denoiser.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match=r"denoiser/denoiser\.onnx was changed"):
        load_image(damaged, "openvino")


def test_an_artifact_of_another_kind_is_refused(tmp_path: Path) -> None:
    seal(tmp_path, line="image", kind="export", parents={}, parameters={}, metrics={})
    with pytest.raises(ArtifactError, match=r"denoiser/config\.json"):
        load_image(tmp_path, "openvino")


def test_an_unknown_engine_is_refused_with_what_there_is(tiny_image_export: Path) -> None:
    with pytest.raises(ArtifactError, match="expected pytorch, onnxruntime or openvino"):
        load_image(tiny_image_export, "tvm")  # type: ignore[arg-type]


def test_a_picture_that_is_not_finite_is_refused_by_name_and_its_neighbours_are_kept() -> None:
    class Broken(StraightBackend):
        """As good as its model, but for the states of the prompt "broken"."""

        def encode(self, prompts):  # type: ignore[no-untyped-def]
            states, mask = super().encode(prompts)
            states[[prompt == "broken" for prompt in prompts]] = np.nan
            return states, mask

    requests = [ImageRequest(prompt, 5, 2, 3.0) for prompt in ("red", "broken", "red")]
    with pytest.raises(NotFiniteError, match=r"1 of 3 pictures came out NaN or infinite, .*guidance 3 in 2 steps") as e:
        Sampler(Broken(), 4).generate(requests)
    first, broken, last = e.value.pictures
    assert broken is None and first is not None and last is not None
    assert (first == [255, 0, 0]).all() and (last == [255, 0, 0]).all()


def test_9_a_style_leads_every_prompt_that_asks_for_none(tiny_image_export: Path, tmp_path: Path) -> None:
    folder = tmp_path / "styled"
    shutil.copytree(tiny_image_export, folder, ignore=shutil.ignore_patterns("manifest.json"))
    write_text(folder / "style.json", '{"style": "red"}')
    seal(folder, line="image", kind="export", parents={}, parameters={}, metrics={})
    plain, styled = load_image(tiny_image_export, "openvino"), load_image(folder, "openvino")

    def paint(runtime: ImageRuntime, prompt: str) -> NDArray[np.uint8]:
        return runtime.generate([ImageRequest(prompt, 0, 2, 2.0)])[0]

    assert np.array_equal(paint(styled, "dog"), paint(plain, "red style: dog"))
    assert not np.array_equal(paint(styled, "dog"), paint(plain, "dog"))
    assert np.array_equal(paint(styled, "blue style: dog"), paint(plain, "blue style: dog"))
