"""A head that says from an encoder's embedding how pleasing a picture is: linear layers that the user brings.

LAION's predictors (Schuhmann et al. 2022, arXiv:2210.08402) are such heads on CLIP ViT-L/14: the first version is one
layer, the second has five with no activation between them. Theirs are pickles: they are to be saved as safetensors.
"""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from components.models.brought import PICKLED
from components.stage import StageError

KEY = "evaluate.image.aesthetics"
NAME = re.compile(r"(?:layers\.(\d+)\.)?(weight|bias)")  # of a tensor, in LAION's second and first version
PICKLE = (b"PK", b"\x80")  # how a file of torch, or a bare pickle, begins


def load(path: Path, width: int) -> nn.Sequential:
    """The head for embeddings of `width`, frozen: BD to B1. Raises `StageError` for anything else, and for a pickle."""
    try:
        with path.open("rb") as file:
            begins = file.read(9)  # of safetensors eight bytes of a length, which may look like a pickle's, and a brace
        if path.suffix in PICKLED or (begins.startswith(PICKLE) and begins[8:] != b"{"):
            raise StageError(f"{KEY}: {path} is a pickle, which can run code when it is read: save it as safetensors")
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise StageError(f"{KEY}: {path} cannot be read as safetensors: {error}") from error
    if unknown := sorted(name for name in tensors if not NAME.fullmatch(name)):
        raise StageError(f"{KEY}: {path} holds {unknown[0]}; weight and bias are read, or layers.0.weight and so on")
    head = nn.Sequential(*(_layer(tensors, prefix, path) for prefix in _prefixes(tensors)))
    sizes = [width, *(layer.out_features for layer in head)]
    takes = [layer.in_features for layer in head]
    if not takes or sizes[:-1] != takes or sizes[-1] != 1:
        shapes = ", ".join(f"{layer.in_features} to {layer.out_features}" for layer in head) or "no layer"
        raise StageError(
            f"{KEY}: {path} has layers of {shapes}; evaluate.image.encoder's embeddings have {width} values, of which "
            "one score is to be made: name the encoder that the head was made for"
        )
    return head.requires_grad_(False)


def _prefixes(tensors: dict[str, Tensor]) -> list[str]:
    """What stands before `weight` and `bias`, layer after layer."""
    found = {name.removesuffix("weight").removesuffix("bias") for name in tensors}
    return sorted(found, key=lambda prefix: int("".join(filter(str.isdigit, prefix)) or 0))


def _layer(tensors: dict[str, Tensor], prefix: str, path: Path) -> nn.Linear:
    weight, bias = tensors.get(f"{prefix}weight"), tensors.get(f"{prefix}bias")
    if weight is None or weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        raise StageError(f"{KEY}: {path}: {prefix}weight and {prefix}bias are no linear layer")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight.float()} | ({} if bias is None else {"bias": bias.float()}))
    return layer
