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
from torch.utils.flop_counter import flop_registry

from components.planner.speed import Taken


class _Taken(TorchDispatchMode):
    """Counts the bytes of the storages that are alive, and operations.

    By PyTorch's formulas, though not by its counter (`FlopCounterMode`), which is slow and keeps gradients of a
    module's inputs until the last of them is known, as no training does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = self.flops = 0
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
        if func is torch.ops.prim.device.default:  # two of three calls
            return args[0].fake_device
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if count := flop_registry.get(func.overloadpacket):
            self.flops += count(*args, **kwargs, out_val=result)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.hold(leaf)
        return result


def traced(sketch: nn.Module, work: Callable[[], object]) -> Taken:
    """Memory and operations of `work`. The weights of `sketch`, on the device "meta" until now, are counted in."""
    taken = _Taken()
    with FakeTensorMode(allow_non_fake_inputs=True):
        sketch.to_empty(device="cpu")
        for tensor in (*sketch.parameters(), *sketch.buffers()):
            taken.hold(tensor)
        with taken:
            work()
    return Taken(taken.most, taken.flops)
