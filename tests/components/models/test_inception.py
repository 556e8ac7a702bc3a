"""Inception against what torch-fidelity 0.4.0 computes. The published weights cannot be had here: these are random."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from components.artifact import ArtifactError
from components.models.inception import Inception, load


def random_network() -> Inception:
    """Weights under which a picture's signal neither dies nor explodes, and no two tensors are alike."""
    network, generator = Inception(), torch.Generator().manual_seed(7)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            if name.endswith("conv.weight"):
                tensor.copy_((noise - 0.5) * (24 / tensor[0].numel()) ** 0.5)
            else:
                tensor.copy_(noise - 0.5 if name.endswith(("bias", "mean", "fc.weight")) else noise + 0.5)
    return network.eval().requires_grad_(False)


def picture() -> Tensor:
    return (torch.arange(3 * 64 * 64) * 7919 % 256).view(1, 3, 64, 64).to(torch.uint8)


@pytest.fixture(scope="module")
def network() -> Inception:
    return random_network()


def test_the_tensors_have_the_names_and_shapes_of_the_published_file(network: Inception) -> None:
    tensors = sorted((n, tuple(t.shape)) for n, t in network.state_dict().items() if "num_batches" not in n)
    listed = "\n".join(f"{name} {shape}" for name, shape in tensors)
    assert len(tensors) == 472
    # Of torch-fidelity 0.4.0's FeatureExtractorInceptionV3, listed in the same way.
    assert hashlib.sha256(listed.encode()).hexdigest() == (
        "d84f693f2abd7fea61cb31c87d3b2f268bf707c1bae1db219afdad3363959cb0"
    )


def test_features_and_logits_are_those_of_torch_fidelity(network: Inception) -> None:
    features = network(picture())
    # What torch-fidelity 0.4.0 gives for these weights and this picture.
    assert features[0, :4].tolist() == pytest.approx([3.46578, 3.51147, 0.358625, 6.41285], rel=1e-4)
    assert float(features.mean()) == pytest.approx(3.67552, rel=1e-4)
    assert network.logits(features)[0, :4].tolist() == pytest.approx([75.002, 57.3237, -10.6842, -35.5505], rel=1e-4)


def test_a_users_file_is_read_and_any_other_refused_in_words(network: Inception, tmp_path: Path) -> None:
    weights = {name: tensor.half() for name, tensor in network.state_dict().items()}
    path = tmp_path / "inception.safetensors"
    save_file(weights, path)
    assert torch.equal(load(path).fc.bias, weights["fc.bias"].float())
    save_file({**weights, "fc.bias": torch.zeros(1000)}, path)
    with pytest.raises(
        ArtifactError, match=r"1 tensors are missing, unknown or of another shape: fc\.bias; .*base_image"
    ):
        load(path)
    torch.save({"fc.bias": weights["fc.bias"]}, tmp_path / "inception.pth")
    for name in ("inception.pth", "nowhere.safetensors"):
        with pytest.raises(ArtifactError, match=rf"{name}: cannot be read as safetensors.*docs/base_image\.md"):
            load(tmp_path / name)
