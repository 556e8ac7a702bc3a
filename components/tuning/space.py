"""A typed search space and TPE's next proposal: a pure function of the space, the seed and the trials so far.

Nothing of Hyperopt's state is kept: it is rebuilt from the trials each time, so a search that was interrupted goes on
exactly as it would have. TPE: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hyperopt import STATUS_FAIL, STATUS_OK, Trials, hp, tpe
from hyperopt.base import JOB_STATE_DONE, Domain

from components.config import Params
from components.tuning.trials import Trial

STARTUP_TRIALS = 3  # random trials before TPE models the losses; Hyperopt's 20 would make a short search random


@dataclass(frozen=True)
class Uniform:
    """Any number from `low` to `high`."""

    low: float
    high: float

    def expression(self, name: str) -> Any:
        return hp.uniform(name, self.low, self.high)

    def value(self, drawn: float) -> float:
        return float(drawn)

    def drawn(self, value: float) -> float:
        return value


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Any number from `low` to `high`, each order of magnitude as likely as the next."""

    def expression(self, name: str) -> Any:
        return hp.loguniform(name, math.log(self.low), math.log(self.high))


@dataclass(frozen=True)
class Choice:
    """One of a few whole numbers."""

    options: tuple[int, ...]

    def expression(self, name: str) -> Any:
        return hp.choice(name, list(range(len(self.options))))

    def value(self, drawn: float) -> int:
        return self.options[int(drawn)]

    def drawn(self, value: float) -> int:
        return self.options.index(int(value))


Space = Mapping[str, Uniform | LogUniform | Choice]

# Parameters of `train.<line>` that are searched; bounds lie a few times to both sides of what is known to train.
SPACES: dict[str, Space] = {
    "image": {
        "learning_rate": LogUniform(2e-4, 1e-2),
        "lora_rank": Choice((4, 16, 64)),
        "caption_dropout": Uniform(0.05, 0.3),
    },
    "adapter": {  # of a pipeline that was brought
        "learning_rate": LogUniform(2e-5, 1e-3),
        "lora_rank": Choice((4, 16, 64)),
        "caption_dropout": Uniform(0.05, 0.3),
    },
    "pipeline": {  # with every weight trained
        "learning_rate": LogUniform(2e-6, 1e-4),
        "caption_dropout": Uniform(0.05, 0.3),
    },
    "text": {"learning_rate": LogUniform(1e-4, 5e-3), "lora_rank": Choice((4, 8, 16))},
}


def space_of(params: Params) -> Space:
    """What is searched for the line that `tune.line` names."""
    if params.tune.line == "image" and not params.base.image.is_built_in:
        return SPACES["adapter" if params.train.image.lora_rank else "pipeline"]
    return SPACES[params.tune.line]


def propose(space: Space, seed: int, history: Sequence[Trial]) -> dict[str, float]:
    """Parameters of the next trial: random for the first few, then where TPE expects an improvement."""
    domain = Domain(lambda parameters: 0.0, {name: dimension.expression(name) for name, dimension in space.items()})
    trials = Trials()
    trials.insert_trial_docs([document(space, trial) for trial in history])
    trials.refresh()
    suggest = functools.partial(tpe.suggest, n_startup_jobs=STARTUP_TRIALS)
    draw_seed = int(np.random.SeedSequence([seed, len(history)]).generate_state(1)[0] % 2**31)
    [proposal] = suggest([len(history)], domain, trials, draw_seed)
    drawn = proposal["misc"]["vals"]
    return {name: dimension.value(drawn[name][0]) for name, dimension in space.items()}


def document(space: Space, trial: Trial) -> dict[str, Any]:
    """A finished trial as Hyperopt keeps it."""
    number = trial.number
    values = {name: [dimension.drawn(trial.parameters[name])] for name, dimension in space.items()}
    misc = {"tid": number, "cmd": None, "idxs": {name: [number] for name in space}, "vals": values}
    result = {"status": STATUS_FAIL} if trial.loss is None else {"status": STATUS_OK, "loss": trial.loss}
    times = {"book_time": None, "refresh_time": None}
    state = {"state": JOB_STATE_DONE, "exp_key": None, "owner": None, "version": 0, "spec": None}
    return {"tid": number, "misc": misc, "result": result, **times, **state}
