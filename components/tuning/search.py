"""Stage `tune`: a seeded Hyperopt search over the training parameters of one line.

Every trial is the line's real training stage, shortened, in a process and a folder of its own. Trials are kept as they
finish: an interrupted search goes on with the next one, and ends as it would have. Knows nothing of MLflow: the flow
logs the result through `components.registry.searches`.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from components import config, paths
from components.artifact import canonical, read_manifest, write_text
from components.config.document import read_yaml, write_yaml
from components.stage import StageError, run
from components.tuning.space import Space, propose, space_of
from components.tuning.trials import Search, Trial, write_search

STATE = paths.STATE / "tuning"
INPUTS = ("components", "data")  # what a training stage reads, below the folder it runs in
SHARED = (paths.HUB_MODELS, paths.ENCODED)  # of a model that was brought: its files, and what was computed of them
Objective = Callable[[Mapping[str, float]], float]
Metrics = Mapping[str, float]  # of metrics/<line>/train.json


class TrialError(StageError):
    """A trial's training failed; the message is its own last line."""


def measure(line: config.Line, guidance: float) -> tuple[str, Callable[[Metrics], float]]:
    """What a search makes small, its name and its value of a training's metrics; it depends on all that is searched.

    The text line's held-out loss; the image line's as it is served, with `guidance`.
    """
    if line == "text":
        return "validation_loss", itemgetter("validation_loss")
    return f"validation loss at guidance {guidance:g}", partial(guided_loss, guidance=guidance)


def guided_loss(metrics: Metrics, guidance: float) -> float:
    """Held-out loss with captions and without, weighted as their errors are in the guided velocity u + g (c - u).

    The variances of independent errors add up: g² of the captioned velocity's, (g - 1)² of the other's.
    """
    weights = {"validation_loss": guidance**2, "validation_loss_uncaptioned": (guidance - 1) ** 2}
    return sum(weight * metrics[name] for name, weight in weights.items()) / sum(weights.values())


def search(
    space: Space, objective: Objective, *, line: str, measured: str, trials: int, seed: int, state: Path
) -> Search:
    """Run the trials that `state` does not hold yet; a failed one counts as tried and teaches TPE nothing.

    `measured` is what the objective is called in the result.
    """
    done = read_state(state)
    while len(done) < trials:
        parameters = propose(space, seed, done)
        done.append(attempt(objective, len(done), parameters))
        write_text(state, canonical([trial.model_dump() for trial in done]))
        last = done[-1]
        values = ", ".join(f"{name} {value:.4g}" for name, value in parameters.items())
        print(f"trial {len(done)}/{trials}: {values}: {last.error or f'loss {last.loss:.4f}'}", flush=True)
    return Search(line=line, seed=seed, objective=measured, trials=tuple(done[:trials]))


def read_state(state: Path) -> list[Trial]:
    """Trials of an interrupted search; none where there was none. The file is replaced whole, so it is never half."""
    if not state.exists():
        return []
    return [Trial.model_validate(trial) for trial in json.loads(state.read_text(encoding="utf-8"))]


def attempt(objective: Objective, number: int, parameters: dict[str, float]) -> Trial:
    """One trial. Only a failing training is a result; anything else is a bug and ends the search."""
    try:
        loss = objective(parameters)
    except TrialError as error:
        return Trial(number=number, parameters=parameters, status="failed", loss=None, error=str(error))
    return Trial(number=number, parameters=parameters, status="ok", loss=loss)


def trial_params(document: dict[str, Any], line: str, steps: int, parameters: Mapping[str, float]) -> dict[str, Any]:
    """`params.yaml` of one trial: the same but for the searched parameters and the number of steps.

    All that was learnt is kept: a strength that is chosen after training would hide what the parameters did.
    """
    stage = {**document["train"][line], **parameters, "max_steps": steps, "checkpoint_every": steps}
    stage |= dict.fromkeys(stage.keys() & {"strength"}, 1.0)
    return {**document, "train": {**document["train"], line: stage}}


def training(line: str, steps: int, root: Path, params: Path, loss: Callable[[Metrics], float]) -> Objective:
    """The objective: `loss` of the metrics of the line's training stage, run on `root`'s data in a scratch folder."""
    document = read_yaml(params)

    def objective(parameters: Mapping[str, float]) -> float:
        with tempfile.TemporaryDirectory(prefix="trial-") as folder:
            scratch = Path(folder)
            for name in INPUTS:
                (scratch / name).symlink_to(root / name)
            (scratch / paths.STATE).mkdir()
            named = Path(document.get("base", {}).get(line, {}).get("model", ""))  # a folder in the project, perhaps
            if named.parts and not named.is_absolute() and ".." not in named.parts and (root / named).is_dir():
                (scratch / named).parent.mkdir(parents=True, exist_ok=True)
                (scratch / named).symlink_to((root / named).absolute())
            for shared in SHARED:
                (root / shared).mkdir(parents=True, exist_ok=True)
                (scratch / shared).symlink_to(root / shared)
            content = trial_params(document, line, steps, parameters)
            write_yaml(scratch / "params.yaml", content)
            train(line, scratch)
            metrics = json.loads((scratch / "metrics" / line / "train.json").read_text(encoding="utf-8"))
            return float(loss(metrics))

    return objective


def train(line: str, folder: Path) -> None:
    """Run a training stage in `folder`; raises `TrialError` with the last line it wrote to stderr."""
    command = [sys.executable, "-m", f"components.training.{line}"]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"training ended with exit code {done.returncode}"]
        raise TrialError(lines[-1].removeprefix("error: "))


def state_name(line: str, params: config.Params, data: str, measured: str) -> str:
    """A name for the search's unfinished state: other data, parameters, space or objective, another file."""
    train = params.train.text if line == "text" else params.train.image
    identity = {
        "train": train.model_dump(mode="json"),
        "data": data,
        "space": repr(space_of(params)),
        "measured": measured,
    }
    identity["tune"] = {"seed": params.tune.seed, "max_steps": params.tune.max_steps}
    return f"{line}-{hashlib.sha256(canonical(identity).encode()).hexdigest()[:16]}.json"


def main() -> None:
    """Search as `params.yaml` says and write metrics/<line>/tune.json."""
    params = config.load()
    tune = params.tune
    measured, loss = measure(tune.line, params.serving.image_guidance)
    data = read_manifest(paths.DATA / tune.line / "split").digest
    objective = training(tune.line, tune.max_steps, Path.cwd(), Path("params.yaml"), loss)
    state = STATE / state_name(tune.line, params, data, measured)
    result = search(
        space_of(params),
        objective,
        line=tune.line,
        measured=measured,
        trials=tune.trials,
        seed=tune.seed,
        state=state,
    )
    target = paths.METRICS / tune.line / "tune.json"
    state.unlink()  # before the verdict: a search that only failed starts anew once the cause is gone
    write_search(target, result)
    print(f"{target}: best loss {result.best.loss:.4f} with {result.best.parameters}")


if __name__ == "__main__":
    run(main)
