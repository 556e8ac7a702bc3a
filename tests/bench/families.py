"""What of the loop each family of models goes through here: `make bench NAME=families` makes the one table of it.

Every family is a tiny instance with random weights, made from its configuration, and takes its line's steps with the
product's own code, in a process of its own with a time limit. A step that fails is `unproven`, with the error's words,
and so are those after it. Writes `metrics/families.json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from components.artifact import canonical, write_text
from components.stage import StageError, run
from tests.bench import image_families, text_families

METRICS = Path("metrics/families.json")
SECONDS = 100
WORDS = 240  # characters of an error that the table keeps

Row = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Line:
    """`steps` in their order; `go` of `module` takes them with a family, and says each one's figure as it is known."""

    families: Mapping[str, Any]
    steps: tuple[str, ...]
    module: str


LINES = {
    "text": Line(text_families.FAMILIES, text_families.STEPS, "tests.bench.text_steps"),
    "image": Line(image_families.FAMILIES, image_families.STEPS, "tests.bench.image_steps"),
}


def trial(line: str, family: str) -> None:
    """Take the steps in this process; each figure is a line of JSON, and so is the error that ends them."""

    def say(step: str, figure: str) -> None:
        print("\n" + json.dumps({step: {"figure": figure}}), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        try:
            import_module(LINES[line].module).go(family, Path(folder), say)
        except Exception as error:  # what a library raises for a family that it does not take is of every kind
            kind = "" if isinstance(error, StageError) else f"{type(error).__name__}: "
            words = " ".join(f"{kind}{error}".split())
            print("\n" + json.dumps({"": {"unproven": words[:WORDS]}}), flush=True)


def row(line: str, family: str, seconds: int) -> Row:
    """What the family's process said, whole for every step."""
    call = [sys.executable, "-m", "tests.bench.families", "--one", f"{line}/{family}"]
    found: Row = {}
    why = f"took more than {seconds} s"
    try:
        done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=seconds)
        written, why = done.stdout, f"its process ended with {done.returncode}"
    except subprocess.TimeoutExpired as error:
        written = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
    for text in written.splitlines():
        if text.startswith("{"):
            found |= json.loads(text)
    why = found.pop("", {}).get("unproven", why)
    after = False
    for step in LINES[line].steps:
        if step not in found:
            found[step] = {"unproven": "after a step that failed" if after else why}
            after = True
    return found


def main(
    one: Annotated[str, typer.Option(hidden=True)] = "",
    only: Annotated[str, typer.Option(help="such as text/qwen3; the rows of the others stay as they are")] = "",
    seconds: Annotated[int, typer.Option(help="a family's limit")] = SECONDS,
) -> None:
    """Write every family's row."""
    if one:
        return trial(*one.split("/"))
    document: dict[str, dict[str, Row]] = json.loads(METRICS.read_text()) if METRICS.exists() else {}
    for line, table in LINES.items():
        for family in table.families:
            if only in ("", f"{line}/{family}"):
                document.setdefault(line, {})[family] = found = row(line, family, seconds)
                said = ", ".join(f"{step} {found[step].get('figure', 'unproven')}" for step in table.steps)
                print(f"{line} {family}: {said}", flush=True)
                write_text(METRICS, canonical(document))


if __name__ == "__main__":
    run(main)
