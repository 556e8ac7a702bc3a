from __future__ import annotations

import pytest
from sqlalchemy import Engine, update

from components.experiments.store import apply, end
from components.experiments.versions import EXPERIMENTS, ExperimentRefusedError, epochs, history, newest, running
from tests.components.experiments.examples import COLOURS, NOTE, changed


def test_the_newest_version_of_each_holds_and_an_end_has_no_weights(engine: Engine) -> None:
    assert newest(engine) == []
    apply(engine, [changed(share=0.5), changed(name="shapes", salt="shapes", share=0.5)], NOTE)
    end(engine, "colours", NOTE)
    assert [(version.name, version.version, version.state) for version in newest(engine)] == [
        ("shapes", 1, "running"),
        ("colours", 2, "ended"),
    ]
    assert [version.name for version in running(engine)] == ["shapes"]
    assert [weights for _, weights in epochs(history(engine, "colours"))] == [COLOURS.weights]


def test_a_row_of_other_code_is_named(engine: Engine) -> None:
    apply(engine, [COLOURS], NOTE)
    with engine.begin() as connection:
        connection.execute(update(EXPERIMENTS).values(definition=COLOURS.model_dump() | {"colour": "red"}))
    with pytest.raises(ExperimentRefusedError, match="version 1 of experiment colours was written by other"):
        newest(engine)
