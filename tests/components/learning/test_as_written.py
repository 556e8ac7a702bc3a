"""What people wrote is trained on as they wrote it; only what is compared is normalised."""

from __future__ import annotations

from components.events.database import opened
from components.learning import comparisons, labels, version
from components.learning.comparisons import LEFT, Given, Preference, compared, different
from components.learning.harvest import Harvest


def test_43_what_users_and_annotators_taught_is_trained_on_as_they_wrote_it(url: str) -> None:
    phrase, answer = " write\n\tpython ", "def f():\n    return 0\n"
    task = labels.task_of(phrase, "a\n\n b ", "new")
    (given,) = different([], [Given(phrase, answer, "r1"), Given(phrase, f"{answer}\n", "r2")]).values()
    comparison = compared("0", given[0], Given(phrase, "  worse\n", "r3"))
    with opened(url) as engine:
        labels.enqueue(engine, [task], 1.0)
        labels.answer(engine, [labels.Answer(task.task, answer, "ada")], 2.0)
        comparisons.keep(engine, [comparison])
        (label,) = labels.answered(engine)
        (stored,) = comparisons.known(engine).values()
    assert (label.phrase, label.completion) == (phrase, answer)
    assert len(given) == 1 and stored == comparison and {stored.left, stored.right} == {answer, "  worse\n"}
    preference = Preference(stored, LEFT, ("1",), "accept", "", 1.0)
    (pair,) = version.pairs_of(Harvest(), [], [preference])
    assert (pair["prompt"], pair["completion"], pair["rejected"]) == (phrase, stored.left, stored.right)
