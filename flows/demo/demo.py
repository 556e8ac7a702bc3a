"""The demo: the whole loop once, on real data, with a simulated audience, ending in a short table.

A script to read from top to bottom; each step is a flow of its own that the schedules run too.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from components.config import Params
from components.evaluation.gate import read_metrics
from components.paths import METRICS, SHEETS, STATE
from flows import stack
from flows.demo.audience import run_audience
from flows.environment import HOW_TO_SIGN_IN, ROOT, service_urls
from flows.monitor import monitor
from flows.pipeline import pipeline
from flows.release import release
from monitoring.simulated import AudienceRun, audience_folder

STEPS = ("start the servers", "pipeline", "release", "simulated audience", "monitor")
console = Console()
LONGEST_WAIT_S = 60.0


def demo(params: Params) -> None:
    """Run every step; stops the programs it started, whatever happens."""
    started = time.monotonic()
    already = stack.running()
    try:
        announce(0, started)
        stack.start(params, ["prefect", "mlflow"])
        announce(1, started)
        pipeline()
        announce(2, started)
        release()
        announce(3, started)
        traffic = run_audience(params)
        await_attribution(params)
        announce(4, started)
        report = monitor(window_minutes=int((time.monotonic() - started) / 60) + 1)
        console.print(summary(traffic, json.loads((ROOT / report).with_suffix(".json").read_text())))
        console.print(where_to_look(params, report), soft_wrap=True)
        console.print(f"whole loop: {(time.monotonic() - started) / 60:.1f} minutes")
    finally:
        if not already:
            for handler in logging.getLogger("prefect.flow_runs").handlers:
                handler.flush()  # the runs' last lines, while Prefect's server still takes them
            stack.stop()


def await_attribution(params: Params) -> None:
    """Wait until the last user's attribution window has closed, where that is a matter of a minute: until then nobody
    counts, and the report would have nothing to compare.
    """
    seconds = max((experiment.attribution_seconds for experiment in params.experiments), default=0.0)
    if seconds <= LONGEST_WAIT_S:
        console.print(f"waiting {seconds:.0f} s for the attribution windows to close (attribution_hours)")
        time.sleep(seconds)


def announce(step: int, started: float) -> None:
    """Say which step begins, how long the demo has run, and what comes next."""
    following = STEPS[step + 1] if step + 1 < len(STEPS) else "the summary"
    elapsed = time.strftime("%M:%S", time.gmtime(time.monotonic() - started))
    console.rule(f"[bold]{step + 1}/{len(STEPS)} {STEPS[step]}[/] · {elapsed} elapsed · next: {following}")


def metrics(line: str, stage: str) -> dict[str, Any]:
    return read_metrics(ROOT / METRICS / line / f"{stage}.json")


def summary(traffic: AudienceRun, report: dict[str, Any]) -> Table:
    """What was trained, how good it was before and after, what export gained, and the experiment's verdict."""
    table = Table("what", "result", title="Atelier demo", title_justify="left")
    for row in [*text_rows(), *image_rows(), *service_rows(traffic, report)]:
        table.add_row(*row)
    return table


def text_rows() -> list[tuple[str, str]]:
    """What training and export made of the text line, as (title, figures)."""
    trained, quality, verified = (metrics("text", stage) for stage in ("train", "evaluate", "verify"))
    before, after = quality["before"], quality["after"]
    return [
        ("text: trained", f"LoRA, {trained['steps']} steps on {trained['pairs']} pairs"),
        ("text: held-out loss", f"{before['loss']:.2f} before, {after['loss']:.2f} after"),
        (
            "text: chrF to the wanted prompt",
            f"{before['chrf']:.2f} before, {after['chrf']:.2f} after, "
            f"{quality['echo']['chrf']:.2f} the phrase unchanged",
        ),
        ("text: served equals trained", f"OpenVINO, same top token {verified['parity']['top1_agreement']:.1%}"),
    ]


def image_rows() -> list[tuple[str, str]]:
    """The same of the image line."""
    trained, quality, verified = (metrics("image", stage) for stage in ("train", "evaluate", "verify"))
    before, after = quality["before"], quality["after"]
    real, kept = quality["judge_on_real_pictures"], metrics("image", "forgetting")
    parities = (
        f"{engine}, PSNR of pictures {parity['min_image_psnr']:.0f} dB at least"
        for engine, parity in verified["parity"].items()
    )
    return [
        ("image: trained", f"flow matching, {trained['steps']} steps on {trained['samples']} pictures"),
        ("image: gained, KID to held-out pictures", f"{before['kid']:.4f} before, {after['kid']:.4f} after"),
        (
            "image: forgotten, base's styles named",
            f"{kept['before']['top1']:.0%} before, {kept['after']['top1']:.0%} after",
        ),
        (
            "image: named by the judge, seen captions / held-out ones",
            "; ".join(
                f"{row['seen_captions']['top1']:.0%} / {row['top1']:.0%} {name}"
                for name, row in (("before", before), ("after", after), ("of real pictures", real))
            ),
        ),
        ("image: served equals trained", "; ".join(parities)),
    ]


def service_rows(traffic: AudienceRun, report: dict[str, Any]) -> list[tuple[str, str]]:
    """What the simulated audience did, and what each experiment says of it."""
    rows = [
        (
            "simulated audience",
            f"{traffic.users} users, {len(traffic.request_ids)} of {len(traffic.request_ids) + traffic.failed} "
            f"requests answered, {traffic.likes} likes",
        )
    ]
    for experiment in (result["analysis"] for result in report["experiments"]):
        low, high = experiment["interval"]
        result = f"{experiment['words']}: difference {experiment['difference']:+.3f}"
        users = sum(arm["users"] for arm in experiment["arms"])
        result += f", interval {low:+.3f} to {high:+.3f}; {users} users count, {experiment['still_open']} do not yet"
        rows.append((f"experiment {experiment['experiment']}", result))
    return rows


def where_to_look(params: Params, report: str) -> str:
    """The paths and commands a user goes on with."""
    urls = service_urls(params)
    return "\n".join(
        [
            f"ops report          {report}",
            f"generated pictures  {ROOT / SHEETS}",
            f"pictures served     {audience_folder(params.monitor.report)}",
            "open each UI        make up, then:",
            f"  gateway           {urls['gateway']}/v1 (API key in {STATE / 'api-key'})",
            f"  MLflow            {urls['mlflow']}",
            f"  Prefect           {urls['prefect']}",
            f"  sign in as        {HOW_TO_SIGN_IN}",
        ]
    )
