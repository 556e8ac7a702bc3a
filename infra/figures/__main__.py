"""Write the tables of figures from `metrics/`: `make figures`.

Each figure is read from the file that its row's command wrote; a row whose file is not there is left out. A test
compares the tables with the files, so that neither changes without the other.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from infra.figures import base, brought, models, online, readme
from infra.figures.row import Document, Row

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- written by `make figures` from metrics/ -->\n", "<!-- end of the figures -->\n"
HEAD = "| what | figure | command |\n|---|---|---|\n"
PAGES: dict[str, Sequence[Row]] = {
    "README.md": readme.ROWS,
    "docs/benchmarks.md": models.ROWS + online.ROWS,
    "docs/base_image.md": base.ROWS,
    "docs/models.md": brought.ROWS,
}


def read(path: Path) -> Document:
    """A JSON document, or the `rows` of a table."""
    text = path.read_text(encoding="utf-8")
    document: Document = (
        {"rows": list(csv.DictReader(text.splitlines()))} if path.suffix == ".csv" else json.loads(text)
    )
    return document


def table(rows: Sequence[Row], metrics: Path) -> str:
    """What the files under `metrics` hold of these rows, which are of the built-in models."""
    found = [(row, read(path)) for row in rows if (path := metrics / row.source).exists()]
    figures = [(row, row.figure(document)) for row, document in found if not of_pipeline(document)]
    return HEAD + "".join(f"| {row.what} | {figure} | `{row.command}` |\n" for row, figure in figures if figure)


def of_pipeline(document: Document) -> bool:
    """Whether a file of the image line is of a pipeline that was brought: it has other figures, or says why none."""
    return document.get("applies") is False or "real_pictures" in document


def written(page: str, rows: Sequence[Row], metrics: Path) -> str:
    """The text of a page with the table of now between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(rows, metrics)}\n{END}{after}"


def main() -> None:
    """Write the tables."""
    for name, rows in PAGES.items():
        page = ROOT / name
        page.write_text(written(page.read_text(encoding="utf-8"), rows, ROOT / "metrics"), encoding="utf-8")


if __name__ == "__main__":
    main()
