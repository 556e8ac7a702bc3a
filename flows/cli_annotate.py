"""`atelier annotate`: have people label in Label Studio, count what they say, and see how sure it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.config import load
from components.paths import STATE
from flows import stack

app = typer.Typer(no_args_is_help=True, help="Have people label in Label Studio.")


def require_label_studio() -> None:
    """Refuse in one line, before a flow starts, what no flow could do: no token, a wrong one, no server."""
    from components.annotation.label_studio import Project
    from flows.labelling_server import provide_token

    provide_token(load())
    Project(load().annotation).check()


@app.command()
def start() -> None:
    """Start Label Studio where none is given, send the first samples, and say where to label."""
    from flows import labelling_server

    typer.echo(labelling_server.start(load()))
    upload()
    typer.echo("then run `atelier annotate reconcile`; where the stack is up, a schedule does it every five minutes")


@app.command()
def upload() -> None:
    """Send the samples that the model learns most from, pre-labelled; a new batch once half of the last is answered."""
    require_label_studio()
    stack.use_server_if_running(load())
    from flows.annotate import upload as run_upload

    typer.echo(run_upload())


@app.command()
def reconcile() -> None:
    """Count what people have answered, write the data version, and send what comes next."""
    require_label_studio()
    stack.use_server_if_running(load())
    from flows.annotate import reconcile as run_reconcile

    typer.echo(run_reconcile())


@app.command()
def gold(
    sample: str,
    why: Annotated[str, typer.Option(help="the reason, for the record")],
    label: Annotated[str, typer.Option(help="the right one; none makes it an ordinary task")] = "",
) -> None:
    """Settle a gold label that people contradict."""
    from flows.quality import settle_gold

    typer.echo(settle_gold(load(), sample, label, why))


@app.command()
def quality(out: Path = STATE / "quality.html") -> None:
    """Write a page about the people who label, their agreement, labels that look wrong and what they have cost."""
    from flows.quality import write_report

    typer.echo(write_report(load(), out))
