"""How a stage's module runs as a command: typed arguments in, an honest exit code and one clear message out."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from components.errors import AtelierError


class StageError(AtelierError):
    """A stage cannot do its work; the message names the thing, the value and what to do."""


def run(main: Callable[..., None]) -> None:
    """Run `main` as a command line; expected errors end as one line on stderr and exit code 1."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    guard(app)


def guard(command: Callable[[], None]) -> None:
    """Call `command`, turning expected errors into one line on stderr and exit code 1."""
    try:
        command()
    except (AtelierError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
