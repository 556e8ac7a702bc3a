"""`atelier experiment`: put what params.yaml declares in force, look at it, end it, and ask what another would earn."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from components.config import load

app = typer.Typer(no_args_is_help=True, help="Experiments: in force within about a second, without a restart.")
Why = Annotated[str, typer.Option(help="the reason, for the record")]


def say(lines: Iterable[str]) -> None:
    typer.echo("\n".join(lines))


@app.command()
def apply(why: Why) -> None:
    """Put the experiments of params.yaml in force; refused where that would spoil one that runs."""
    from flows.experiments import declare

    say(declare(load(), why) or ["all of params.yaml is in force already"])


@app.command(name="list")
def list_() -> None:
    """What runs: shares, weights, since when, by whom and why."""
    from flows.experiments import listed

    say(listed(load()))


@app.command()
def history(name: Annotated[str | None, typer.Argument(help="of all by default")] = None) -> None:
    """Every version, oldest first."""
    from flows.experiments import recorded

    say(recorded(load(), name))


@app.command()
def end(name: str, why: Why) -> None:
    """End an experiment for good; its users get the line's defaults."""
    from flows.experiments import end as run_end

    say([run_end(load(), name, why)])


@app.command()
def rank(
    name: str, candidates: Annotated[Path, typer.Option(help="YAML: name, then rules of weights and max_characters")]
) -> None:
    """What other allocations would have earned, by replay of the requests on record, before they get traffic."""
    from flows.experiments import rank as run_rank

    say(run_rank(load(), name, candidates))
