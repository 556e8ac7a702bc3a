"""Proposals stay inside the space, depend on seed and history alone, and learn from the losses."""

from __future__ import annotations

from components.config import load
from components.tuning.space import SPACES, STARTUP_TRIALS, Choice, LogUniform, Space, Uniform, propose, space_of
from components.tuning.trials import Trial

SPACE: Space = {"rate": LogUniform(1e-4, 1e-1), "dropout": Uniform(0.0, 0.5), "rank": Choice((4, 8, 16))}


def tried(count: int, seed: int = 7) -> list[Trial]:
    """Trials of a search whose loss is smallest at dropout 0.4."""
    history: list[Trial] = []
    for number in range(count):
        parameters = propose(SPACE, seed, history)
        loss = (parameters["dropout"] - 0.4) ** 2
        history.append(Trial(number=number, parameters=parameters, status="ok", loss=loss))
    return history


def test_proposals_stay_inside_the_space() -> None:
    for trial in tried(12):
        assert 1e-4 <= trial.parameters["rate"] <= 1e-1
        assert 0.0 <= trial.parameters["dropout"] <= 0.5
        assert trial.parameters["rank"] in (4, 8, 16)
        assert isinstance(trial.parameters["rank"], int)


def test_the_next_proposal_depends_on_seed_and_history_alone() -> None:
    history = tried(6)
    assert propose(SPACE, 7, history) == propose(SPACE, 7, history)
    assert propose(SPACE, 7, history) != propose(SPACE, 8, history)
    other = [trial.model_copy(update={"loss": 1.0 - (trial.loss or 0.0)}) for trial in history]
    assert propose(SPACE, 7, history) != propose(SPACE, 7, other)


def test_it_moves_towards_the_smaller_loss() -> None:
    history = tried(30)

    def distance(trials: list[Trial]) -> float:
        return sum(abs(trial.parameters["dropout"] - 0.4) for trial in trials) / len(trials)

    assert distance(history[-10:]) < distance(history[:STARTUP_TRIALS])
    assert distance(history[-10:]) < 0.1  # at random it would be 0.17


def test_a_failed_trial_can_stand_in_the_history() -> None:
    failed = Trial(number=0, parameters=propose(SPACE, 7, []), status="failed", loss=None, error="out of memory")
    assert propose(SPACE, 7, [failed])["rank"] in (4, 8, 16)


def test_every_line_has_a_space_of_its_training_parameters() -> None:
    params = load()
    train = params.train
    for name in ("adapter", "pipeline"):
        assert SPACES[name].keys() <= type(train.image).model_fields.keys()
    assert SPACES["image"].keys() <= type(train.image).model_fields.keys()
    assert SPACES["text"].keys() <= type(train.text).model_fields.keys()


def test_a_pipeline_is_searched_at_rates_of_its_own() -> None:
    params = load()
    assert space_of(params) is SPACES["image"]
    base = params.base.model_copy(update={"image": params.base.image.model_copy(update={"model": "./mine"})})
    brought = params.model_copy(update={"base": base})
    assert space_of(brought) is SPACES["adapter"]
    image = params.train.image.model_copy(update={"lora_rank": None})
    whole = brought.model_copy(update={"train": params.train.model_copy(update={"image": image})})
    assert space_of(whole) is SPACES["pipeline"]
