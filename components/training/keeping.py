"""What keeps a fine-tuned image model from losing what its base knows: it rehearses, and keeps only as much as it may.

A share of the training pictures is painted by the base itself, of captions it has learnt (prior preservation: Ruiz et
al. 2023, arXiv:2208.12242). And the weights that are kept lie on the line from the base's to the fine-tuned ones
(Wortsman et al. 2022, arXiv:2109.01903): as near to these as still lets the judge recognise what the base can paint.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from components.data.pixels import pixels
from components.data.sample import Sample
from components.models.base_captions import base_captions
from components.models.denoiser import Denoiser
from components.models.judge import LEAST_KNOWN, Judge, named
from components.models.text_encoder import TextEncoder
from components.runtimes.base import Floats, ImageRequest
from components.runtimes.image import Sampler
from components.runtimes.pytorch import PyTorchBackend
from components.training.trainer import is_writer

AT_ONCE = 32  # pictures that are painted at a time
MOST = 512  # pictures that are rehearsed; where more are wanted, these come several times
REHEARSED, SERVED = (12, 2.0), (12, 3.5)  # steps and guidance: of what is rehearsed, and as users are served by default
STRENGTHS = (1.0, 0.75, 0.5, 0.25)
ASKED = 64  # captions that a strength is chosen by
SHORTFALL = 0.05  # of the share that is recognised, from that of the real pictures: half of the gate's, for the noise


class HalfPrecision(PyTorchBackend):
    """Predicts in bf16, as training does: on a CPU that has it several times as fast."""

    def velocity(self, latents_BCHW: Floats, time_B: Floats, text_BLD: Floats, mask_BL: Floats) -> Floats:
        with torch.autocast("cpu", torch.bfloat16):
            return super().velocity(latents_BCHW, time_B, text_BLD, mask_BL)


def painted(
    network: Denoiser, encoder: TextEncoder, prompts: Sequence[str], seed: int, how: tuple[int, float]
) -> Tensor:
    """A picture of each prompt, uint8 BCHW, in `how` = (steps, guidance)."""
    training = network.training
    sampler = Sampler(HalfPrecision(network, encoder), network.shape.size)
    requests = [ImageRequest(prompt, seed + at, *how) for at, prompt in enumerate(prompts)]
    parts = [sampler.generate(requests[at : at + AT_ONCE]) for at in range(0, len(requests), AT_ONCE)]
    network.train(training)
    pictures_BHWC = torch.from_numpy(np.stack([picture for part in parts for picture in part]))
    return pictures_BHWC.permute(0, 3, 1, 2).contiguous()


def rehearsal(base: Denoiser, encoder: TextEncoder, share: float, samples: int, seed: int) -> tuple[Tensor, list[str]]:
    """Pictures (uint8 BCHW) that the base paints of what it has learnt, and their captions.

    As many as make `share` of a training set with `samples`, with repetitions after `MOST`.
    """
    wanted = max(1, round(samples * share / (1 - share)))
    captions = [caption for caption, _ in base_captions(min(wanted, MOST), seed, rehearsed=True)]
    pictures_BCHW = painted(base, encoder, captions, seed, REHEARSED)
    order = [at % len(captions) for at in range(wanted)]
    return pictures_BCHW[order], [captions[at] for at in order]


def between(base: Denoiser, tuned: Denoiser, share: float) -> Denoiser:
    """The denoiser whose weights are `share` of the way from the base's to the fine-tuned ones."""
    network, weights = Denoiser(base.shape), tuned.state_dict()
    network.load_state_dict({name: own.lerp(weights[name], share) for name, own in base.state_dict().items()})
    return network.eval()


def strongest(
    base: Denoiser,
    tuned: Denoiser,
    samples: Sequence[Sample],
    prompts: Sequence[str],
    encoder: TextEncoder,
    judge: Judge,
    seed: int,
) -> tuple[Denoiser, float]:
    """The network of the largest of `STRENGTHS` at which the things are still recognised, and that strength.

    Of `samples`, asked for by `prompts`, those count that the base paints recognisably of the plain captions. The bar
    is `SHORTFALL` below the share of their real pictures that the judge recognises; where none reaches it, the smallest
    is taken, and the gate has the last word.
    """
    embeddings_BD = encoder.embed([str(s.meta.get("name") or s.text) for s in samples])

    def recognised(network: Denoiser, asked: Sequence[str]) -> Tensor:
        return named(judge, painted(network, encoder, asked, seed, SERVED), embeddings_BD)

    known_B = recognised(base, [s.text for s in samples])
    if known_B.sum() < LEAST_KNOWN:
        if is_writer():
            few = f"of {len(samples)} captions the base can paint {int(known_B.sum())}, too few to choose a strength by"
            print(f"train image: {few}: all that was learnt is kept", flush=True)
        return tuned, 1.0
    real_B = named(judge, pixels(samples, base.shape.size), embeddings_BD)
    wanted = float(real_B[known_B].float().mean()) - SHORTFALL
    for strength in STRENGTHS:
        network = between(base, tuned, strength)
        share = float(recognised(network, prompts)[known_B].float().mean())
        if is_writer():
            print(f"train image: at strength {strength:g} {share:.0%} recognised, {wanted:.0%} wanted", flush=True)
        if share >= wanted:
            break
    return network, strength
