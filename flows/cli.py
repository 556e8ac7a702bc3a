"""The `atelier` command: thin doors to the flows and the stack."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from components import paths, stage
from components.config import Line, load
from flows import alerting, cli_annotate, cli_experiment, environment, stack

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(cli_annotate.app, name="annotate")
app.add_typer(cli_experiment.app, name="experiment")


@app.command()
def demo() -> None:
    """The whole loop on real data, with a simulated audience; ends with a table and stops what it started."""
    environment.provide_secrets()
    environment.accept_keys()
    stack.use_server(load())
    from flows.demo.demo import demo as run_demo

    run_demo(load())


@app.command()
def run(targets: Annotated[list[str] | None, typer.Argument(help="stages; all by default")] = None) -> None:
    """Bring artifacts up to date, each DVC stage as a Prefect task."""
    stack.use_server_if_running(load())
    from flows.pipeline import pipeline

    for name, outcome in pipeline(targets).items():
        typer.echo(f"{outcome:7} {name}")


@app.command()
def release(
    force: Annotated[str | None, typer.Option(help="why to release what may be worse or cannot be compared")] = None,
    canary: Annotated[bool | None, typer.Option(help="on trial beside the champion; as params.yaml says")] = None,
) -> None:
    """Register the packaged artifacts, compare them with what serves now, build and deploy them."""
    environment.provide_secrets()
    stack.use_server_if_running(load())
    from flows.release import release as run_release

    for line, deployment in run_release(force=force, canary=canary).items():
        typer.echo(f"{line}: {deployment}")


@app.command()
def canary() -> None:
    """One step of each line's candidate on trial: it stays, goes on or goes back. A schedule does this every minute."""
    from components.lines import LINES
    from flows import experiments
    from flows.canary import step

    for line in LINES:
        typer.echo(step(line, load()))
    for words in experiments.step(load()):
        typer.echo(words)


@app.command()
def monitor() -> None:
    """Write the ops report of the last window."""
    stack.use_server_if_running(load())
    from flows.monitor import monitor as run_monitor

    typer.echo(run_monitor())


@app.command()
def ops() -> None:
    """Write the page that a person on call opens first: what serves, alerts, releases. Rewritten every minute."""
    from flows.ops import ops as write_ops

    typer.echo(write_ops(load()))


@app.command()
def learn() -> None:
    """Train on what users liked and annotators wrote, where enough is new, and put the model on trial."""
    environment.provide_secrets()
    stack.use_server_if_running(load())
    from flows.learn import learn as run_learn

    learned = run_learn()
    typer.echo(f"{learned.words}{f' {learned.deployment}' if learned.deployment else ''}")


@app.command()
def adapt() -> None:
    """Decide on the adapters that segments of users try; train those that are due, and begin their experiments."""
    stack.use_server_if_running(load())
    from flows.adapters import adapt as run_adapt

    typer.echo("\n".join(run_adapt()))


@app.command()
def proof(workspace: Annotated[bool, typer.Option(hidden=True)] = False) -> None:
    """The loop unattended, with simulated users and annotators, in a workspace of its own; see its timeline."""
    environment.provide_secrets()
    environment.accept_keys()
    stack.use_server(load())
    from flows.demo import proof as story

    if not workspace:
        raise SystemExit(story.in_workspace())
    typer.echo(f"timeline {story.proof(load())}")


@app.command()
def labels(
    answers: Annotated[Path | None, typer.Option(help="JSON lines of task, completion and annotator")] = None,
) -> None:
    """List the phrases that wait for an annotator, as JSON lines; or record what annotators wrote."""
    from flows.label import listed, record

    typer.echo(listed(load()) if answers is None else record(load(), answers))


@app.command()
def tune(what: Annotated[Literal["training", "sampling"], typer.Argument()] = "training") -> None:
    """Search training or sampling parameters with Hyperopt; trials become nested MLflow runs."""
    stack.use_server_if_running(load())
    from flows.tune import tune as run_tune

    typer.echo(run_tune(what))


@app.command()
def up() -> None:
    """Start the stack and leave it running; makes and releases both models first where none is deployed."""
    environment.provide_secrets()
    environment.accept_keys()
    stack.use_server(load())
    params = load()
    from flows.experiments import declare

    for words in declare(params):
        typer.echo(words)
    stack.start(params, ["prefect", "mlflow"])
    from components.lines import LINES
    from flows.driver import plan
    from flows.pipeline import pipeline
    from flows.release import gateway
    from flows.release import release as run_release
    from flows.stack import served, startable

    if not all(served(line, None) for line in LINES):
        pipeline()
        run_release()
    slots, lost = startable({line: plan(line, params).champion for line in LINES})
    for slot, tag in lost.items():
        typer.echo(f"{slot:12} not started: the Bento store has lost {tag}; who serves the line is not affected")
    obstacles = {program: alerting.obstacle(program) for program in alerting.PACKAGES}
    watchers = [program for program, reason in obstacles.items() if reason is None]
    programs = ["prefect", "mlflow", *slots, "gateway", "worker", "housekeeping", *watchers]
    stack.start(params, ["prefect", "mlflow", *slots])
    gateway()
    stack.start(params, programs)
    for program, url in environment.service_urls(params).items():
        reason = obstacles.get(program)
        if program in programs or reason:
            typer.echo(f"{program:12} {f'not started: {reason}' if reason else url}")
    from flows.ops import ops as write_ops

    typer.echo(f"{'ops page':12} {write_ops(params)}")
    typer.echo(f"API key: the value of ATELIER_API_KEYS, or the file {paths.STATE / 'api-key'}")
    typer.echo(f"sign in to Prefect and MLflow: {environment.HOW_TO_SIGN_IN}")


@app.command()
def down() -> None:
    """Stop the stack."""
    typer.echo("stopped" if stack.stop() else "nothing was running")


@app.command()
def status() -> None:
    """What runs now, and where each line's releases stand."""
    typer.echo(stack.control("status") if stack.supervisor_pid() else "nothing is running")
    from components.lines import LINES
    from flows.rollback import describe

    for line in LINES:
        try:
            typer.echo(describe(line, load()))
        except stage.StageError as error:  # before the first release there is no database, which is no error
            typer.echo(f"{line}: {error}")


@app.command()
def rollback(line: Line, why: Annotated[str, typer.Option(help="the reason, for the record")]) -> None:
    """Take back a line's candidate on trial or else its champion; the champion before serves again."""
    from flows.rollback import rollback as run_rollback

    typer.echo(run_rollback(line, why, load()))


@app.command()
def history(line: Line) -> None:
    """Every move of a line's releases, oldest first."""
    from components.events.database import opened
    from components.releases import report, store

    with opened(load().events.url, create=False) as engine:
        typer.echo("\n".join(map(report.describe, store.history(engine, line))))


@app.command()
def serve(program: str) -> None:
    """Become one program of the stack (supervisor calls this)."""
    from flows.serve import serve as become

    become(program, load())


@app.command()
def why(response_id: str) -> None:
    """From a served response to its deployment, artifact, parameters, data version and licences."""
    from components.lineage import explain

    typer.echo(explain(response_id, load().events.url, environment.ROOT / paths.ARTIFACTS))


def main() -> None:
    """Entry point: expected errors end as one line and exit code 1."""
    environment.apply()
    os.chdir(environment.ROOT)
    stage.guard(app)


if __name__ == "__main__":
    main()
