"""What people wrote is trained on as they wrote it; only what is compared is normalised."""

from __future__ import annotations

from components.annotation import comparisons, phrase_queue
from components.annotation.comparisons import Candidate, Preference, compare, distinct
from components.annotation.template import Choice
from components.events.database import opened
from components.learning import data_version
from components.learning.harvest import Harvest


def test_43_what_users_and_annotators_taught_is_trained_on_as_they_wrote_it(url: str) -> None:
    phrase, answer = " write\n\tpython ", "def f():\n    return 0\n"
    task = phrase_queue.phrase_task(phrase, "a\n\n b ", "new")
    (given,) = distinct([], [Candidate(phrase, answer, "r1"), Candidate(phrase, f"{answer}\n", "r2")]).values()
    comparison = compare("0", given[0], Candidate(phrase, "  worse\n", "r3"))
    with opened(url) as engine:
        phrase_queue.enqueue(engine, [task], 1.0)
        phrase_queue.record_answers(engine, [phrase_queue.PhraseAnswer(task.task, answer, "ada")], 2.0)
        comparisons.store_comparisons(engine, [comparison])
        (label,) = phrase_queue.read_labels(engine)
        (stored,) = comparisons.read_comparisons(engine).values()
    assert (label.phrase, label.completion) == (phrase, answer)
    assert len(given) == 1 and stored == comparison and {stored.left, stored.right} == {answer, "  worse\n"}
    preference = Preference(stored, Choice.LEFT, ("1",), "accept", "", 1.0)
    (pair,) = data_version.pairs_of(Harvest(), [], [preference])
    assert (pair["prompt"], pair["completion"], pair["rejected"]) == (phrase, stored.left, stored.right)
