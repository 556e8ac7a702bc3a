"""Is a candidate package not worse than the champion, the package that serves now? Both on today's held-out data.

A fact of a deployment and therefore no DVC stage: `atelier release start` runs it between register and deploy, in a
process of its own: `python -m components.evaluation.champion <line> <candidate> <champion> <output.json>`. Both models
get the same captions, seeds and completions, so that every difference is taken within a pair. A check passes where the
worse end of its difference's one-sided 95 % interval stays within a margin of `params.yaml` (non-inferiority). A
verdict on the same packages, data and settings is kept and not found again. Where perplexity cannot be compared, as of
an endpoint or of models with different tokenisers, answers are (`components.evaluation.by_answers`), and the verdict
says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from components import config
from components.artifact import canonical, verify, write_text
from components.chat import context_length, of_text
from components.config import GateImage, GateText, Line, Params
from components.data.pairs import Pair, distinct_pairs, read_pairs
from components.data.sample import Sample
from components.evaluation.by_answers import by_answers, sampling, similarities
from components.evaluation.distances import LEAST, kid_difference
from components.evaluation.exported_text import OpenVinoLogits
from components.evaluation.gate import ONE_SIDED_95, Check, Relation, refusals, verdict
from components.evaluation.image import Captions, Painting, chosen, paint, require_concepts
from components.evaluation.paired import Values, mean_difference
from components.evaluation.pipeline import concepts, squares
from components.models import judge as judges
from components.models.judge import Judge, scaled
from components.models.language import IGNORED, Chat, batches, collate
from components.models.picture_encoder import PictureEncoder
from components.models.text_encoder import TextEncoder
from components.paths import DATA
from components.runtimes.image import Sampler, load_image, load_sampler
from components.runtimes.pipeline import paints_pipeline
from components.stage import StageError, run


@dataclass(frozen=True)
class Bound(Check):
    """A check whose `value` is the bound of a one-sided 95 % interval around `estimate`, from `pairs` differences."""

    estimate: float
    pairs: int


def recognised(judge: Judge, pictures_NCHW: Tensor, embeddings_ND: Tensor) -> Values:
    """1 for each picture whose own name fits it best of all names, else 0."""
    cosines_NN = judge.picture(scaled(pictures_NCHW)) @ judge.text(embeddings_ND).T
    return (cosines_NN.diagonal() >= cosines_NN.amax(1)).double().numpy()


@torch.inference_mode()
def image_checks(
    candidate: Sampler, champion: Sampler, judge: Judge, held_out: Captions, painting: Painting, gate: GateImage
) -> list[Bound]:
    """Pictures of the held-out captions are named not much less often, and lie not much farther from the real ones."""
    if candidate.size != champion.size:
        raise StageError(f"the candidate paints {candidate.size} pixels, the champion {champion.size}")
    count, seed = len(held_out.samples), painting.seed
    painted = [paint(runtime, held_out.texts, painting) for runtime in (candidate, champion)]
    named = [recognised(judge, pictures_NCHW, held_out.embeddings_BD) for pictures_NCHW in painted]
    gain, gain_lower = mean_difference(named[0], named[1], "lower", seed)
    real_NF, candidate_NF, champion_NF = (judge(pictures_NCHW) for pictures_NCHW in (held_out.real_BCHW, *painted))
    kid, error = kid_difference(real_NF, candidate_NF, champion_NF, held_out.concepts)
    return [
        Bound("recognition_gain_lower", gain_lower, Relation.AT_LEAST, -gate.max_recognition_loss, gain, count),
        Bound("kid_increase_upper", kid + ONE_SIDED_95 * error, Relation.AT_MOST, gate.max_kid_increase, kid, count),
    ]


def compare_pipelines(candidate: Path, champion: Path, held_out: list[Sample], params: Params) -> list[Bound]:
    """As `image_checks`, where one of the two is a brought pipeline: by the user's encoder, one engine at a time.

    Raises `StageError` where no encoder is named: nothing else compares pictures of any two models.
    """
    if params.evaluate.image.encoder is None:
        raise StageError(
            "pipelines are compared by an encoder: name a CLIP or SigLIP folder as evaluate.image.encoder; to replace "
            "the champion without: atelier release start --force 'the reason'"
        )
    if (count := len(set(concepts(held_out)))) < LEAST:
        raise StageError(
            f"held-out pictures of {count} concepts; KID needs {LEAST}: add some, or raise split.image.test"
        )
    encoder = PictureEncoder(params.evaluate.image.encoder)
    painting, gate, texts = Painting.served(params), params.gate.image, [s.text for s in held_out]
    captions_NF, real_NF = encoder.captions(texts), encoder.pictures(squares(held_out, encoder.size))
    features = [encoder.pictures(paint(load_image(folder), texts, painting)) for folder in (candidate, champion)]
    aligned = [(features_NF * captions_NF).sum(1).double().numpy() for features_NF in features]
    gain, gain_lower = mean_difference(aligned[0], aligned[1], "lower", painting.seed)
    kid, error = kid_difference(real_NF, features[0], features[1], concepts(held_out))
    upper = kid + ONE_SIDED_95 * error
    return [
        Bound("alignment_gain_lower", gain_lower, Relation.AT_LEAST, -gate.max_alignment_loss, gain, len(texts)),
        Bound("kid_increase_upper", upper, Relation.AT_MOST, gate.max_kid_increase, kid, len(texts)),
    ]


def read_chat(package: Path) -> Chat:
    return Chat.read(package / "openvino", package / "openvino")


@torch.inference_mode()
def completion_losses(folder: Path, pairs: Sequence[Pair]) -> Values:
    """Each completion's mean negative log-likelihood in nats per token, by a package's own graph."""
    chat, logits = read_chat(folder), OpenVinoLogits(folder)
    losses: list[float] = []
    vocabulary = int(of_text(read_config(folder / "openvino")).get("vocab_size", 0))
    for samples in batches([chat.encode(pair) for pair in pairs], vocabulary=vocabulary):
        logits_TV, tokens_T = logits(collate(samples, chat.pad))
        losses_T = functional.cross_entropy(logits_TV, tokens_T, reduction="none")
        own = [len(labels) - labels.count(IGNORED) for _, labels in samples]
        losses += [float(losses_t.mean()) for losses_t in losses_T.split(own)]
    return np.array(losses)


def short_enough(pairs: Sequence[Pair], *packages: Path) -> list[Pair]:
    """The pairs that every package's model holds; how many are not is printed. Raises `StageError` where fewer than two
    are."""
    kept = list(pairs)
    for package in packages:
        chat, holds = read_chat(package), context_length(read_config(package / "openvino"))
        kept = [pair for pair in kept if not holds or len(chat.encode(pair)[0]) <= holds]
    if long := len(pairs) - len(kept):
        print(f"{long} of {len(pairs)} held-out pairs are left out: they are longer than a model holds")
    if len(kept) < 2:
        raise StageError(f"{len(kept)} held-out pairs are short enough for both models, 2 are needed")
    return kept


def read_config(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    return document


def text_checks(candidate: Path, champion: Path, pairs: Sequence[Pair], seed: int, gate: GateText) -> list[Bound]:
    """Perplexity on the held-out completions rises by a small factor at most."""
    losses_N, other_losses_N = (completion_losses(folder, pairs) for folder in (candidate, champion))
    estimate, upper = np.exp(mean_difference(losses_N, other_losses_N, "upper", seed))
    threshold = 1 + gate.max_perplexity_increase
    return [Bound("perplexity_ratio_upper", float(upper), Relation.AT_MOST, threshold, float(estimate), len(pairs))]


def unlike(candidate: Path, champion: Path, pairs: Sequence[Pair]) -> str:
    """Why perplexity says nothing of two packages of the text line; empty where it does."""
    if by_answers(candidate, champion):
        return "an endpoint has no perplexity"
    chats = [read_chat(package) for package in (candidate, champion)]
    if any(chats[0].answer(pair.completion) != chats[1].answer(pair.completion) for pair in pairs):
        return "their tokenisers differ, and with them what a token's perplexity means"
    return ""


def answer_checks(candidate: Path, champion: Path, test: Sequence[Pair], params: Params) -> list[Bound]:
    """The answers to held-out phrases are little less like the wanted ones."""
    scores_N, other_scores_N = similarities((candidate, champion), test, params)
    gain, lower = mean_difference(scores_N, other_scores_N, "lower", params.evaluate.text.seed)
    margin = params.gate.text.max_chrf_loss
    return [Bound("chrf_gain_lower", lower, Relation.AT_LEAST, -margin, gain, len(scores_N))]


def compare_text(candidate: Path, champion: Path, params: Params) -> tuple[list[Bound], str]:
    """The checks of two packages of the text line, and why they are of answers; empty where they are of perplexity."""
    path, seed = DATA / "text" / "split" / "test.parquet", params.evaluate.text.seed
    test = read_pairs(path)
    pairs = distinct_pairs(test, seed)
    if len(pairs) < 2:
        raise StageError(
            f"{path}: {len(pairs)} held-out pairs that differ, 2 are needed; give the split a larger share"
        )
    if why := unlike(candidate, champion, pairs):
        return answer_checks(candidate, champion, test, params), why
    return text_checks(candidate, champion, short_enough(pairs, candidate, champion), seed, params.gate.text), ""


def compare_image(candidate: Path, champion: Path, params: Params) -> list[Bound]:
    """Raises `StageError` where there are too few pictures to compare two packages on."""
    settings = params.evaluate.image
    samples = chosen("test", settings.samples, settings.seed)
    if paints_pipeline(candidate) or paints_pipeline(champion):
        return compare_pipelines(candidate, champion, samples, params)
    samplers = [load_sampler(folder, "openvino") for folder in (candidate, champion)]
    held_out = Captions.of(samples, TextEncoder(), samplers[0].size)
    require_concepts(held_out)
    return image_checks(samplers[0], samplers[1], judges.load(), held_out, Painting.served(params), params.gate.image)


def main(line: Line, candidate: Path, champion: Path, output: Path) -> None:
    """Write the verdict to `output`; a refusal is a verdict like any other and no failure."""
    params = config.load()
    question = {
        "candidate": verify(candidate).digest,
        "champion": verify(champion).digest,
        "data": verify(DATA / line / "split").digest,
        "settings": {
            stage: getattr(getattr(params, stage), line).model_dump(mode="json") for stage in ("evaluate", "gate")
        },
    }
    question["served"] = sampling(params) if line == "text" else asdict(Painting.served(params))
    if question["candidate"] == question["champion"]:
        return print(f"{candidate} and {champion} are the same {line} package: nothing to compare")
    if output.exists() and question.items() <= json.loads(output.read_bytes()).items():
        return print(f"{output}: judged already")
    try:
        why = ""
        if line == "text":
            checks, why = compare_text(candidate, champion, params)
        else:
            checks = compare_image(candidate, champion, params)
    except (RuntimeError, OSError) as error:  # OpenVINO's own errors are RuntimeErrors too
        raise StageError(
            f"{candidate} cannot be compared with the champion {champion}: {error}; to replace the champion all the "
            "same: atelier release start --force 'the reason'"
        ) from error
    document = verdict(checks, parity=True)  # without it there would be no package
    if why:
        document["compared"] = f"answers, as {why}"
    write_text(output, canonical(question | document))
    print(
        f"compare {line}: " + ("not worse" if document["passed"] else "may be worse: " + "; ".join(refusals(document)))
    )


if __name__ == "__main__":
    run(main)
