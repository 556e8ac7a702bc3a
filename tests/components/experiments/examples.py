"""An experiment for tests, with the weights that a test needs."""

from __future__ import annotations

from components.config import Experiment, Variant


def experiment(control: float = 0.5, treatment: float = 0.5, salt: str = "salt", alpha: float = 0.05) -> Experiment:
    variants = {
        "treatment": Variant(weight=treatment, temperature=0.9),
        "control": Variant(weight=control, temperature=0.7),
    }
    return Experiment(name="colours", line="text", salt=salt, variants=variants, alpha=alpha, srm_alpha=0.001)
