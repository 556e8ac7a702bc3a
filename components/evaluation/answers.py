"""How near an answer is to the wanted one, in any language: pure functions from two texts to a score between 0 and 1.

`exact` asks for the same text, `exact_normalised` for the same but for case, punctuation, width and white space.
`token_f1` counts the words in common whatever their order (as SQuAD does, Rajpurkar et al. 2016), `rouge_l` those in
the longest common subsequence (Lin 2004, as an F-score with equal weights), `chrf` character n-grams (Popovic 2015,
torchmetrics); what is missing counts more than what is too much in chrF alone. No word of any language is left out, so
that "the answer" and "answer" differ.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from torchmetrics.functional.text import chrf_score

from components.evaluation.paired import Values

Scores = dict[str, Values]  # of one writer's answers to N phrases, by metric

# Scripts written without spaces between words: Thai, Lao, Myanmar, Khmer, kana and Han. Korean has spaces.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
_UNSPACED += "\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")
_MINUS = re.compile(r"(?<!\w)-(?=\d)")  # of a number: "-5" is not 5


def normalised(text: str) -> str:
    """`text` in NFKC, lower case, with one space for each run of white space or punctuation and none at the ends."""
    text = unicodedata.normalize("NFKC", text).casefold()
    minus = {match.start() for match in _MINUS.finditer(text)}
    kept = (
        " " if unicodedata.category(character)[0] == "P" and place not in minus else character
        for place, character in enumerate(text)
    )
    return " ".join("".join(kept).split())


def tokens(text: str) -> list[str]:
    """The words of the normalised text; single characters where a script has no spaces between words."""
    return _TOKEN.findall(normalised(text))


def exact(answer: str, reference: str) -> float:
    """1 for the same text, white space around it aside, else 0."""
    return float(answer.strip() == reference.strip())


def exact_normalised(answer: str, reference: str) -> float:
    """1 for the same normalised text; where nothing is left of the reference, as of "?", for the same text."""
    wanted = normalised(reference)
    return float(normalised(answer) == wanted) if wanted else exact(answer, reference)


def token_f1(answer: str, reference: str) -> float:
    given, wanted = Counter(tokens(answer)), Counter(tokens(reference))
    return _f_score((given & wanted).total(), given.total(), wanted.total()) or exact_normalised(answer, reference)


def rouge_l(answer: str, reference: str) -> float:
    given, wanted = tokens(answer), tokens(reference)
    shared = longest_common_subsequence(given, wanted)
    return _f_score(shared, len(given), len(wanted)) or exact_normalised(answer, reference)


def longest_common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Its length, by rows of the table as bits of one number (Hyyrö 2004): long answers take milliseconds."""
    places: dict[str, int] = {}
    for place, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << place
    row = whole = (1 << len(left)) - 1
    for token in right:
        matched = row & places.get(token, 0)
        row = (row + matched | row - matched) & whole
    return len(left) - row.bit_count()


def chrf(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """The score of each answer beside its reference; a reference of under six characters keeps all below 1."""
    wanted = [[reference] for reference in references]
    _, scores_N = chrf_score(answers, wanted, n_word_order=0, return_sentence_level_score=True)
    return scores_N.tolist()


_EACH: dict[str, Callable[[str, str], float]] = {
    "exact": exact,
    "exact_normalised": exact_normalised,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
}
METRICS = (*_EACH, "chrf")


def scored(answers: Sequence[str], references: Sequence[str]) -> Scores:
    """Every metric of every answer."""
    both = list(zip(answers, references, strict=True))
    scores = {name: np.array([score(*one) for one in both]) for name, score in _EACH.items()}
    return scores | {"chrf": np.array(chrf(answers, references))}


def _f_score(shared: int, given: int, wanted: int) -> float:
    return 2 * shared / (given + wanted) if shared else 0.0
