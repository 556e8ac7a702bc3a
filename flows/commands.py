"""What each command does: it asks a flow and says what came of it. `flows/cli.py` gives them their names.

What takes long to import is imported by the command that needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from components import paths
from components.config import Line, Params, load
from components.errors import AtelierError
from flows import environment, stack

Why = Annotated[str, typer.Option(help="the reason, for the record")]


def say(messages: Iterable[str]) -> None:
    typer.echo("\n".join(messages))


def own_stack() -> Params:
    """Have this machine's stack know its secrets and the API keys of this environment, and flows report to it."""
    environment.provide_secrets()
    environment.accept_keys()
    environment.keep_endpoint_key(load())
    stack.use_server(load())
    return load()


def up() -> None:
    """Start the stack and leave it running; makes and releases both models first where none is deployed."""
    params = own_stack()
    from flows.up import up as start_all

    for message in start_all(params):
        typer.echo(message)


def down() -> None:
    """Stop the stack."""
    typer.echo("stopped" if stack.stop() else "nothing was running")


def status() -> None:
    """What runs now, and where each line's releases stand."""
    typer.echo(stack.control("status") if stack.supervisor_pid() else "nothing is running")
    from components.events.database import NoDatabaseError
    from components.lines import LINES
    from flows.rechecked import rechecked
    from flows.rollback import describe

    params, failed = load(), False
    for line in LINES:
        try:
            typer.echo(describe(line, params))
            if told := rechecked(line, params):
                typer.echo(told)
        except NoDatabaseError as error:  # before the first release
            typer.echo(f"{line}: {error}")
        except AtelierError as error:  # of one line: the other's may be what is asked for
            typer.echo(f"error: {line}: {error}", err=True)
            failed = True
    if failed:
        raise typer.Exit(1)


def demo() -> None:
    """The whole loop on real data, with a simulated audience; ends with a table and stops what it started."""
    params = own_stack()
    from flows.demo.demo import demo as run_demo

    run_demo(params)


def params(prefix: Annotated[str, typer.Argument(help="such as train.text; all by default")] = "") -> None:
    """Every key of params.yaml: its value, what it takes, and what it is for."""
    from rich.console import Console
    from rich.table import Table

    from components.config.keys import describe

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("key", "value", "takes", "what it is for"):
        table.add_column(title, overflow="fold")
    for row in describe(load(), prefix):
        table.add_row(*row)
    # In a file or a pipe each key has a line of its own.
    Console(width=None if sys.stdout.isatty() else 400, markup=False, highlight=False).print(table)


def proof(workspace: Annotated[bool, typer.Option(hidden=True)] = False) -> None:
    """The loop unattended, with simulated users and annotators, in a workspace of its own; see its timeline."""
    params = own_stack()
    from flows.demo import proof as story

    if not workspace:
        raise SystemExit(story.in_workspace())
    typer.echo(f"timeline {story.proof(params)}")


def serve(program: str) -> None:
    """Become one program of the stack (supervisor calls this)."""
    from flows.serve import serve as become

    become(program, load())


def pipeline_run(stages: Annotated[list[str] | None, typer.Argument(help="all by default")] = None) -> None:
    """Bring artifacts up to date, each DVC stage as a Prefect task."""
    stack.use_server_if_running(load())
    from flows import doctor
    from flows.pipeline import pipeline

    for line in doctor.untrained(load(), stages or []):
        pipeline(["fetch"])  # of what the doctor reads with
        _examine(load(), line)
    say(f"{outcome:7} {name}" for name, outcome in pipeline(stages).items())


def model_show(
    model: Annotated[
        str, typer.Argument(help="as under base.text.model or base.image.model; by default that of text")
    ] = "",
) -> None:
    """What a model is, what is missing, what runs it, and what it takes to train and to serve; loads no weights."""
    from flows.model import show

    params = load()
    for line in show(model or params.base.text.model, params):
        typer.echo(line)


def data_doctor(
    line: Annotated[Line | None, typer.Option(help="by default the lines whose source is your own")] = None,
    out: Annotated[Path | None, typer.Option(help="where the page goes, of one line")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="rows or pictures that are looked at")] = None,
) -> None:
    """What a training would make of your data, as a page; exit code 1 for what would end or ruin it."""
    from flows import doctor

    params = load()
    lines = [line] if line else doctor.lines_to_see(params)
    if out and len(lines) > 1:
        raise typer.BadParameter("it is one page for one line: give --line, too")
    if sum(_examine(params, one, out, sample) for one in lines):
        raise typer.Exit(1)


def _examine(params: Params, line: Line, out: Path | None = None, sample: int | None = None) -> bool:
    """Say what the doctor finds and write its page; returns whether a training would end or be ruined."""
    from flows import doctor

    drawn = doctor.read(params, line, sample)
    say(f"{line}: {words}" for words in doctor.first_words(drawn))
    found = doctor.report(params, line, drawn)
    say(f"{line}: {words}" for words in doctor.said(found))
    typer.echo(f"{line}: {doctor.write(found, params, out or doctor.page_of(line))}")
    return any(found.wrong())


def data_import(
    files: Annotated[list[Path], typer.Argument(help="JSON or JSON lines, of one format")],
    format: Annotated[
        Literal["openai", "tensorzero", "langfuse", "jsonl"] | None, typer.Option(help="told by the first row")
    ] = None,
    like: Annotated[str, typer.Option(help="metric, score or field that says whether an answer was liked")] = "like",
    as_pairs: Annotated[
        Path | None, typer.Option(help="also write what may be learned, as prepare.text reads it")
    ] = None,
) -> None:
    """Import logs of requests and reactions as events; what they hold already stays as it is."""
    environment.provide_secrets("ATELIER_USER_SECRET")
    from flows.importing import bring

    say(bring(load(), files, format, like, as_pairs))


def train_tune(what: Annotated[Literal["training", "sampling"], typer.Argument()] = "training") -> None:
    """Search training or sampling settings with Hyperopt; trials become nested MLflow runs."""
    stack.use_server_if_running(load())
    from flows.tune import tune

    typer.echo(tune(what))


def release_start(
    line: Annotated[Line | None, typer.Argument(help="both by default")] = None,
    force: Annotated[str | None, typer.Option(help="why to release what may be worse or cannot be compared")] = None,
    canary: Annotated[bool | None, typer.Option(help="on trial beside the champion; as params.yaml says")] = None,
) -> None:
    """Register the packaged artifacts, compare them with what serves now, build and deploy them."""
    environment.provide_secrets()
    stack.use_server_if_running(load())
    from flows.release import release

    released = release([line] if line else None, force=force, canary=canary)
    say(f"{name}: {deployment}" for name, deployment in released.items())


def release_step() -> None:
    """One step of each line's candidate on trial: it stays, goes on or goes back. A schedule does this every minute."""
    from components.lines import LINES
    from flows import experiments
    from flows.canary import step

    for line in LINES:
        typer.echo(step(line, load()))
    for message in experiments.step(load()):
        typer.echo(message)


def release_rollback(line: Line, why: Why) -> None:
    """Take back a line's candidate on trial or else its champion; the champion before serves again."""
    from flows.rollback import rollback

    typer.echo(rollback(line, why, load()))


def release_history(line: Line) -> None:
    """Every move of a line's releases, oldest first."""
    from components.events.database import opened
    from components.releases import report, store

    with opened(load().events.url, create=False) as engine:
        say(map(report.describe, store.history(engine, line)))


def experiment_apply(why: Why) -> None:
    """Put the experiments of params.yaml in force; refused where that would spoil one that runs."""
    from flows.experiments import declare

    say(declare(load(), why) or ["all of params.yaml is in force already"])


def experiment_list() -> None:
    """What runs: shares, weights, since when, by whom and why."""
    from flows.experiments import listed

    say(listed(load()))


def experiment_history(name: Annotated[str | None, typer.Argument(help="of all by default")] = None) -> None:
    """Every version, oldest first."""
    from flows.experiments import recorded

    say(recorded(load(), name))


def experiment_end(name: str, why: Why) -> None:
    """End an experiment for good; its users get the line's defaults."""
    from flows.experiments import end

    typer.echo(end(load(), name, why))


def experiment_rank(
    name: str, candidates: Annotated[Path, typer.Option(help="YAML: name, then rules of weights and max_characters")]
) -> None:
    """What other allocations would have earned, by replay of the requests on record, before they get traffic."""
    from flows.experiments import rank

    say(rank(load(), name, candidates))


def require_label_studio() -> None:
    """Refuse in one line, before a flow starts, what no flow could do: no token, a wrong one, no server."""
    from components.annotation.label_studio import Project
    from flows.labelling_server import provide_token

    provide_token(load())
    Project(load().annotation).check()


def label_start() -> None:
    """Start Label Studio where none is given, send the first samples, and say where to label."""
    from flows import labelling_server

    typer.echo(labelling_server.start(load()))
    label_upload()
    typer.echo("then run `atelier label reconcile`; where the stack is up, a schedule does it every five minutes")


def label_upload() -> None:
    """Send the samples that the model learns most from, pre-labelled; a new batch once half of the last is answered."""
    require_label_studio()
    stack.use_server_if_running(load())
    from flows.annotate import upload

    typer.echo(upload())


def label_reconcile() -> None:
    """Count what people have answered, write the data version, and send what comes next."""
    require_label_studio()
    stack.use_server_if_running(load())
    from flows.annotate import reconcile

    typer.echo(reconcile())


def label_gold(
    sample: str,
    why: Why,
    label: Annotated[str, typer.Option(help="the right one; none makes it an ordinary task")] = "",
) -> None:
    """Settle a gold label that people contradict."""
    from flows.annotate import settle_gold

    typer.echo(settle_gold(load(), sample, label, why))


def label_quality(out: Path = paths.STATE / "quality.html") -> None:
    """Write a page about the people who label, their agreement, labels that look wrong and what they have cost."""
    from flows.annotate import write_report

    typer.echo(write_report(load(), out))


def label_phrases(
    answers: Annotated[Path | None, typer.Option(help="JSON lines of task, completion and annotator")] = None,
) -> None:
    """List the phrases that wait for an annotator, as JSON lines; or record what annotators wrote."""
    from components.annotation.phrase_queue import list_open, record_file

    url = load().events.url
    typer.echo(list_open(url) if answers is None else record_file(url, answers))


def learn_run() -> None:
    """Train on what users liked and annotators wrote, where enough is new, and put the model on trial."""
    environment.provide_secrets()
    stack.use_server_if_running(load())
    from flows.learn import learn

    learned = learn()
    typer.echo(f"{learned.message}{f' {learned.deployment}' if learned.deployment else ''}")


def learn_adapt() -> None:
    """Decide on the adapters that segments of users try; train those that are due, and begin their experiments."""
    stack.use_server_if_running(load())
    from flows.adapters import adapt

    say(adapt())


def report_write() -> None:
    """Write the ops report of the last window."""
    stack.use_server_if_running(load())
    from flows.monitor import monitor

    typer.echo(monitor())


def report_ops() -> None:
    """Write the page that a person on call opens first: what serves, alerts, releases. Rewritten every minute."""
    from flows.ops import ops

    typer.echo(ops(load()))


def report_recheck() -> None:
    """Compute answers of production again, by PyTorch, and say what came of it. Else a schedule does it each hour."""
    stack.use_server_if_running(load())
    from flows.recheck import recheck

    say(recheck())


def report_why(response_id: str) -> None:
    """From a served response to its deployment, artifact, parameters, data version and licences."""
    from components.lineage import explain

    typer.echo(explain(response_id, load().events.url, environment.ROOT / paths.ARTIFACTS))
