"""`python -m tests.components.training.killed LINE`: a training stage whose processes die with a first checkpoint."""

from __future__ import annotations

import os
import sys
from typing import Any

from components.training import image, text, trainer

saved = trainer._Run.on_train_batch_end


def save_and_die(self: trainer._Run, trained: Any, *arguments: Any) -> None:
    saved(self, trained, *arguments)
    if trained.global_step % self.config.checkpoint_every == 0:
        os._exit(9)


if __name__ == "__main__":
    trainer._Run.on_train_batch_end = save_and_die  # type: ignore[method-assign]
    {"text": text.main, "image": image.main}[sys.argv[1]]()
