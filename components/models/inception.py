"""Inception v3 as FID and the Inception Score are published with, for who brings its weights; none are shipped.

The network is TensorFlow's of 2015 (Szegedy et al. 2015, arXiv:1512.00567) with the tensor names of torch-fidelity,
whose published weights fit once they are safetensors. Average pooling leaves the padding out, the last block pools by
maximum and pictures are resized as TensorFlow 1 did, or the figures would not be the published ones. torch-fidelity
itself is not used: it imports torchvision, and downloads and unpickles its weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from components.artifact import ArtifactError

SIZE = 299  # pixels
FEATURES = 2048
CLASSES = 1008

Shape = tuple[int, int, int]  # a convolution's width, and its kernel's height and width
Chain = list[list[Shape]]  # step after step, in each the convolutions that stand side by side


class _Convolution(nn.Module):
    def __init__(self, narrow: int, shape: Shape, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        wide, height, width = shape
        padding = (height // 2, width // 2) if padded else 0
        self.conv = nn.Conv2d(narrow, wide, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(wide, eps=0.001)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x_BCHW)))


class _Block(nn.Module):
    """Branches side by side, each a chain of convolutions; the last is a pooling, with a convolution where it stays.

    A block without `pooled` halves the side: by a stride of 2, unpadded, in the last step of each branch.
    """

    def __init__(self, narrow: int, pooled: int, *, maximum: bool = False, **branches: Chain) -> None:
        super().__init__()
        same = nn.MaxPool2d(3, 1, 1) if maximum else nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.pool = same if pooled else nn.MaxPool2d(3, 2)
        self.branches = [self._branch(name, narrow, steps, halves=not pooled) for name, steps in branches.items()]
        self.branch_pool = _Convolution(narrow, (pooled, 1, 1)) if pooled else nn.Identity()

    def _branch(self, name: str, narrow: int, steps: Chain, *, halves: bool) -> list[list[str]]:
        """Make a branch's convolutions; returns the names in each step: `name`, or numbered, or numbered with a, b."""
        made = []
        for number, shapes in enumerate(steps, start=1):
            stride = 2 if halves and number == len(steps) else 1
            stem = f"{name}_{number}" if len(steps) > 1 else name
            made.append([stem + letter for letter in ("ab" if len(shapes) > 1 else ("",))])
            for full, shape in zip(made[-1], shapes, strict=True):
                self.add_module(full, _Convolution(narrow, shape, stride, stride == 1))
            narrow = shapes[-1][0]  # those side by side come last
        return made

    def forward(self, x_BCHW: Tensor) -> Tensor:
        outputs = []
        for branch in self.branches:
            y_BCHW = x_BCHW
            for names in branch:
                y_BCHW = torch.cat([self.get_submodule(name)(y_BCHW) for name in names], 1)
            outputs.append(y_BCHW)
        return torch.cat([*outputs, self.branch_pool(self.pool(x_BCHW))], 1)


def _narrow(narrow: int, pooled: int) -> _Block:
    five, double = [[(48, 1, 1)], [(64, 5, 5)]], [[(64, 1, 1)], [(96, 3, 3)], [(96, 3, 3)]]
    return _Block(narrow, pooled, branch1x1=[[(64, 1, 1)]], branch5x5=five, branch3x3dbl=double)


def _middle(inner: int) -> _Block:
    point, flat, tall = [(inner, 1, 1)], [(inner, 1, 7)], [(inner, 7, 1)]
    single, double = [point, flat, [(192, 7, 1)]], [point, tall, flat, tall, [(192, 1, 7)]]
    return _Block(768, 192, branch1x1=[[(192, 1, 1)]], branch7x7=single, branch7x7dbl=double)


def _wide(narrow: int, *, maximum: bool) -> _Block:
    fork = [(384, 1, 3), (384, 3, 1)]
    single, double = [[(384, 1, 1)], fork], [[(448, 1, 1)], [(384, 3, 3)], fork]
    return _Block(narrow, 192, maximum=maximum, branch1x1=[[(320, 1, 1)]], branch3x3=single, branch3x3dbl=double)


class Inception(nn.Module):
    """Square uint8 pictures BCHW to features [batch, FEATURES]; `logits` gives the score's classes from these."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, (32, 3, 3), 2, padded=False)
        self.Conv2d_2a_3x3 = _Convolution(32, (32, 3, 3), padded=False)
        self.Conv2d_2b_3x3 = _Convolution(32, (64, 3, 3))
        self.MaxPool_1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = _Convolution(64, (80, 1, 1))
        self.Conv2d_4a_3x3 = _Convolution(80, (192, 3, 3), padded=False)
        self.MaxPool_2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _narrow(192, 32), _narrow(256, 64), _narrow(288, 64)
        double = [[(64, 1, 1)], [(96, 3, 3)], [(96, 3, 3)]]
        self.Mixed_6a = _Block(288, 0, branch3x3=[[(384, 3, 3)]], branch3x3dbl=double)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = map(_middle, (128, 160, 160, 192))
        seven = [[(192, 1, 1)], [(192, 1, 7)], [(192, 7, 1)], [(192, 3, 3)]]
        self.Mixed_7a = _Block(768, 0, branch3x3=[[(192, 1, 1)], [(320, 3, 3)]], branch7x7x3=seven)
        self.Mixed_7b, self.Mixed_7c = _wide(1280, maximum=False), _wide(2048, maximum=True)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, pictures_BCHW: Tensor) -> Tensor:
        x_BCHW = (resized(pictures_BCHW.float()) - 128) / 128
        for name, layer in self.named_children():
            x_BCHW = x_BCHW if name == "fc" else layer(x_BCHW)
        return x_BCHW.mean((2, 3))

    def logits(self, features_BD: Tensor) -> Tensor:
        """Without the bias, as the score is published."""
        return features_BD @ self.fc.weight.T


def resized(pictures_BCHW: Tensor) -> Tensor:
    """Square float pictures bilinearly to `SIZE`, as TensorFlow 1: pixel i is taken at i · side / `SIZE`."""
    side = pictures_BCHW.shape[-1]
    place = torch.arange(SIZE) * torch.tensor(side / SIZE)
    low = place.long()
    high, share = (low + 1).clamp_max(side - 1), place - low
    columns = torch.lerp(pictures_BCHW[..., low], pictures_BCHW[..., high], share)
    return torch.lerp(columns[..., low, :], columns[..., high, :], share.unsqueeze(1))


def load(path: Path) -> Inception:
    """Read a user's weights, frozen; raises `ArtifactError` where they are not this network's, as safetensors."""
    network = Inception()
    expected = {name: tensor.shape for name, tensor in network.state_dict().items() if "num_batches" not in name}
    hint = "evaluate.image.inception wants torch-fidelity's weights as safetensors, made as docs/base_image.md says"
    try:
        weights = {name: tensor for name, tensor in load_file(path).items() if "num_batches" not in name}
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: cannot be read as safetensors: {error}; {hint}") from error
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    if wrong := sorted(dict(expected.items() ^ shapes.items())):
        raise ArtifactError(
            f"{path}: {len(wrong)} tensors are missing, unknown or of another shape: {wrong[0]}; {hint}"
        )
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=False)
    return network.eval().requires_grad_(False)
