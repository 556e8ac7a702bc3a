"""What a computation takes, found by going through it with tensors that have shapes and no values.

No weights are read and nothing is computed: a network of any size is traced in seconds, on any machine. Operations are
those that PyTorch takes on a CPU; a GPU's attention may keep less.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from components.planner.speed import Taken


class _Live(TorchDispatchMode):
    """Counts the bytes of the storages that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self.known:
            return

        def freed(_: object) -> None:
            del self.known[key]
            self.now -= size

        self.known[key] = weakref.ref(storage, freed)
        self.now += size
        self.most = max(self.most, self.now)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.hold(leaf)
        return result


def traced(sketch: nn.Module, work: Callable[[], object]) -> Taken:
    """Memory and operations of `work`. The weights of `sketch`, on the device "meta" until now, are counted in."""
    live, counter = _Live(), FlopCounterMode(display=False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        sketch.to_empty(device="cpu")
        for tensor in (*sketch.parameters(), *sketch.buffers()):
            live.hold(tensor)
        with counter, live:
            work()
    return Taken(live.most, counter.get_total_flops())
