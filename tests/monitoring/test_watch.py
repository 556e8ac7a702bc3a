from __future__ import annotations

from monitoring.drift import Comparison
from monitoring.reference import Texts
from monitoring.watch import Served, comparisons_of, texts_of
from tests.monitoring.examples import like, row


def served(line: str = "text", training: Texts | None = None) -> Served:
    earlier = [row(f"e{i}", line=line, user_key=f"u{i}", prompt="a hen", output="hen: animal") for i in range(3)]
    rows = [row(f"r{i}", line=line, user_key=f"u{i}", time=900.0 + i, prompt="an owl") for i in range(4)]
    return Served(line, f"{line}-1", rows, earlier, [like("r0", user="u0", at=910.0)], training)


def compared(one: Served) -> list[Comparison]:
    return comparisons_of(one, texts_of(one, None), 800.0, 2000.0)


def test_prompts_are_held_against_the_training_data_and_17_outputs_against_the_models_own() -> None:
    training = Texts(["a fox", "a cow"], ["fox", "cow"], "the training data (0123)")
    prompts, outputs, service = compared(served(training=training))
    assert (prompts.name, prompts.against, len(prompts.reference), len(prompts.current)) == (
        "text prompts",
        "the training data (0123)",
        2,
        4,
    )
    assert (outputs.against, len(outputs.reference)) == ("the first traffic of text-1", 3)
    assert (service.name, service.against) == ("text service", "the first traffic of text-1")
    assert service.current["reacted"].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_without_the_training_data_the_first_traffic_is_the_reference() -> None:
    prompts, _, _ = compared(served())
    assert prompts.against == "the first traffic of text-1"
    assert prompts.reference["characters"].tolist() == [5.0] * 3


def test_pictures_have_no_outputs_on_record() -> None:
    assert [c.name for c in compared(served("image"))] == ["image prompts", "image service"]
