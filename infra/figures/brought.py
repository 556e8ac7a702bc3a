"""Rows of the page about models that somebody brings: how they train, how good the planner is, what families do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from infra.figures.row import Document, Row, bench, listed, other_work, percent, times
from tests.bench.families import LINES
from tests.bench.timing import paired_ratio


def planned(d: Document) -> str:
    """The planner's memory as a share of each measure's, least and most."""

    def ratios(measure: str) -> str:
        found = sorted(row["planned"] / row[measure] for row in d["runs"])
        return f"{found[0]:.2f} to {found[-1]:.2f}"

    kept = max(row["resident_by_default"] / row["planned"] for row in d["runs"])
    return (
        f"{len(d['runs'])} runs: {ratios('in_use')} of PyTorch's bytes in use, {ratios('resident')} of resident memory "
        f"where freed blocks go back to the system; as glibc keeps them the process had up to {kept:.2f} × the plan"
    )


def given_back(d: Document) -> str:
    """What it costs that freed blocks go back to the system."""
    rows = [row for row in d["runs"] if "seconds_by_default" in row]
    if len(rows) < 6:  # too few for an interval
        return ""
    return f"{times(asdict(paired_ratio(*zip(*map(of_step, rows), strict=True))), 2)} of the time"


def of_step(row: Document) -> tuple[float, float]:
    return row["seconds"], row["seconds_by_default"]


def reached(d: Document) -> str:
    """What share of a matrix product's speed training steps came to."""
    shares = sorted(row["reached"] for row in d["runs"])
    return f"{percent(shares[0])} to {percent(shares[-1])}"


def family(line: str, name: str) -> Callable[[Document], str]:
    """A family's steps, each with its figure, to the first that is unproven, and why."""

    def figure(d: Document) -> str:
        row, steps = d.get(line, {}).get(name, {}), LINES[line].steps
        proven = [step for step in steps if "figure" in row.get(step, {})]
        said = [f"{step}: {row[step]['figure']}" for step in proven]
        if row and (left := [step for step in steps if step not in proven]):
            said.append(f"{', '.join(left)} unproven: {row[left[0]]['unproven']}")
        return "; ".join(said).replace("|", "/")

    return figure


PLAIN = {"plain": "the plain loop's", "plain_with_transformers_loss": "a plain loop's (transformers' own loss)"}
LOOPS = {
    "smollm2": "SmolLM2, LoRA, as shipped",
    "qwen3": "Qwen3-shaped, 8 M parameters, LoRA",
    "sticker": "the built-in image model, as shipped",
    "sdxl": "SDXL-shaped, an eighth of its widths, 128 px, LoRA",
}
BASELINES = {
    "unigram": "how often each token is written, alone",
    "echo": "the phrase unchanged",
    "nearest_answer": "training's answer to the nearest phrase",
    "majority_answer": "training's most frequent answer",
}


def loop(name: str) -> Callable[[Document], str]:
    """Speed of our loop as a share of the plain ones'."""

    def figure(d: Document) -> str:
        if (row := d.get(f"loop_{name}")) is None:
            return ""
        shares = "; ".join(
            f"{times(row[key]['speed'], 3)} {words} speed, of all steps together {row[key]['of_totals']:.3f} ×"
            for key, words in PLAIN.items()
            if key in row
        )
        return f"{shares}; {row['steps']} pairs of steps of {row['step_seconds']:.2f} s, in turn; {other_work(row)}"

    return figure


def cached(d: Document) -> str:
    """An epoch with cached latents and prompt states beside one that computes them."""
    if (row := d.get("caches")) is None:
        return ""
    seconds = row["seconds_a_picture"]
    return (
        f"{times(row['speedup'])} as fast: {seconds['cached']:.2f} s a picture instead of {seconds['computed']:.2f} s, "
        f"after {row['seconds_to_fill_a_picture']:.2f} s once; SDXL's shape, {percent(row['share_of_widths'])} of its "
        f"widths (UNet {row['unet_parameters'] / 1e6:,.0f} M), {row['size']} px; {other_work(row)}"
    )


def packed(d: Document) -> str:
    """Packed steps beside padded ones."""
    if (row := d.get("packing")) is None:
        return ""
    return (
        f"{times(row['speedup'], 2)} as fast, all steps together {row['of_totals']:.2f}; "
        f"{row['tokens_packed']:,} tokens computed instead of {row['tokens_padded']:,}; samples of {row['median']} "
        f"tokens in the median and {row['longest']} at the most; {other_work(row)}"
    )


def adapters(d: Document) -> str:
    """How far a family's adapter is from itself elsewhere."""

    def family(name: str) -> str:
        def way(key: str) -> str:
            row = d["adapters"][name][key]
            return f"{row['differs']:.2g} of {row['adapter']:.2g}"

        return listed(("made here", "made there"), way).replace(";", ",")

    return listed(list(d["adapters"]), family) if "adapters" in d else ""


def trained(name: str) -> Callable[[Document], str]:
    """What a model came to, and what it took."""

    def figure(d: Document) -> str:
        row = d.get("side_by_side", {}).get("models", {}).get(name)
        if row is None:
            return ""
        return (
            f"{scores(row['scores']['after'])}; {row['steps']} steps, {row['seconds']:.0f} s and "
            f"{row['memory'] / 1e9:.2f} GB of the stage; {row['trained_parameters'] / 1e6:.1f} M trained weights, "
            f"checkpoint {row['checkpoint_bytes'] / 1e6:.1f} MB, export {row['export_bytes'] / 1e6:.1f} MB; "
            f"untrained: {scores(row['scores']['before'])}"
        )

    return figure


def scores(row: Document) -> str:
    said = {"loss": "loss {:.2f}", "chrf": "chrF {:.2f}", "exact": "exact {:.0%}"}
    return ", ".join(words.format(row[name]) for name, words in said.items() if name in row).replace("%", " %")


def baselines(d: Document) -> str:
    """What needs no training, on the same pairs."""
    if (rows := d.get("side_by_side", {}).get("models")) is None:
        return ""
    row = next(iter(rows.values()))
    said = listed(BASELINES, lambda who: scores(row["scores"][who]))
    return f"{said}; loss of {row['pairs']} held-out pairs, the others of {row['samples']} phrases"


MODELS = ("SmolLM2, LoRA", "SmolLM2, every weight", "Qwen3-shaped, from random weights")
ROWS = [
    Row("planner.json", "planner: memory of training, of what was measured", planned, bench("models")),
    *(Row("models.json", f"our loop: {words}", loop(name), bench("models")) for name, words in LOOPS.items()),
    Row("models.json", "cached latents and prompt states", cached, bench("models")),
    Row("models.json", "packed samples", packed, bench("models")),
    Row(
        "models.json",
        "adapters in plain PEFT and diffusers: largest difference (logits, of 255 levels), of what they change",
        adapters,
        bench("models"),
    ),
    Row("models.json", "the same pairs: without training", baselines, bench("models")),
    *(Row("models.json", f"the same pairs: {name}", trained(name), bench("models")) for name in MODELS),
    Row("planner.json", "training step: giving freed blocks back to the system", given_back, bench("models")),
    Row("planner.json", "training step: share of the probe's FLOP/s", reached, bench("models")),
    *(
        Row("families.json", f"{line}: {name}", family(line, name), bench("families"))
        for line, table in LINES.items()
        for name in table.families
    ),
]
