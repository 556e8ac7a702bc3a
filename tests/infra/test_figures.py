"""The figures of README and of docs are those of `metrics/`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.figures import __main__ as figures
from infra.figures import models, online, readme
from tests.bench.__main__ import BENCHES
from tests.conftest import ROOT

UNIT = r"(?:%|×(?! ?\d)|s|ms|seconds?|minutes|tokens/s|images/s|points?|[MG]i?B|dB|nats|times as)"
MEASURE = re.compile(rf"\d[\d.,]* ?{UNIT}(?![\w/])")
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
# What is no measurement: parameters, limits, sizes of files, a level of confidence.
STATED = {
    "README.md": ["The shipped base, 20 MB with its judge"],
    "docs/base_image.md": ["16.3 MB of float16", "3.7 MB of float16", "intervals of 95 %"],
    "docs/data.md": ["least, median, 95 %, 99 %, most", "and 1 GiB, is not read further; a line has at most 64 MiB"],
    "docs/endpoint.md": ["one-sided 95 % interval", "within 10 s"],
    "docs/service.md": ["in its cache of 1 GB"],
    "docs/training.md": ["stays as long as each kind is below 10 GiB", "has to be within 0.1 % of the largest latent"],
    "docs/releases.md": ["canary (1, 5, 25, 50 % of users)"],
}


def committed() -> list[str]:
    """The files of figures that the project holds; what a user measured beside them is no part of the table."""
    listed = subprocess.run(["git", "ls-files", "metrics"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [path for path in listed.stdout.split() if (ROOT / path).exists()]
    return [str(path.relative_to(ROOT)) for path in (ROOT / "metrics").rglob("*.*")]  # an archive


@pytest.mark.parametrize("name", figures.PAGES)
def test_18_the_table_is_what_the_metrics_say(name: str, tmp_path: Path) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    assert page.count(figures.BEGIN) == page.count(figures.END) == 1
    for path in committed():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tmp_path / path)
    assert figures.written(page, figures.PAGES[name], tmp_path / "metrics") == page, "run `make figures`, and commit"


def test_18_another_figure_is_another_table(tmp_path: Path) -> None:
    """And a file that is not there is no row."""
    document = {"before": {"top1": 0.93}, "after": {"top1": 0.58, "pictures": 100}}
    (tmp_path / "image").mkdir()
    (tmp_path / "image/forgetting.json").write_text(json.dumps(document))
    (row,) = figures.table(models.ROWS, tmp_path).splitlines()[2:]
    assert "| 93 % → 58 % of 100 |" in row
    page = f"a\n{figures.BEGIN}an old table\n{figures.END}b\n"
    text = figures.written(page, models.ROWS, tmp_path)
    assert "an old table" not in text and row in text
    assert text.startswith("a\n") and text.endswith("b\n")
    assert figures.written(text, models.ROWS, tmp_path) == text


def test_a_pipeline_that_was_brought_has_none_of_the_built_in_models_figures(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image/forgetting.json").write_text('{"applies": false, "why": "no judge"}')
    (tmp_path / "image/evaluate.json").write_text('{"real_pictures": {}}')
    assert figures.table(models.ROWS, tmp_path).splitlines()[2:] == []


def test_readme_tells_no_range_of_savings_where_one_is_unknown() -> None:
    def data(*savings: float | None) -> dict[str, object]:
        return {"data": {str(n): {"strategies": {"mixed": {"saved": saved}}} for n, saved in enumerate(savings)}}

    assert readme.saved(data(0.5, -0.1)) == "-10 % to 50 % on 2 data sets"
    assert readme.saved(data(0.5, None)) == ""


def test_readme_shows_a_few_figures_and_docs_have_every_row() -> None:
    """A page that is generated leaves out no row; README's rows read the same files."""
    benchmarks = figures.PAGES["docs/benchmarks.md"]
    assert list(benchmarks) == models.ROWS + online.ROWS
    assert len(figures.PAGES["README.md"]) < 12
    assert {row.source for row in figures.PAGES["README.md"]} <= {row.source for row in benchmarks}


def test_18_every_command_of_the_table_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    stages = (ROOT / "dvc.yaml").read_text()
    rows = [row for page in figures.PAGES.values() for row in page]
    for row in rows:
        tool, *names = row.command.split()
        if tool == "make" and names[0] == "bench":
            assert names[1].removeprefix("NAME=") in BENCHES
        elif tool == "make":
            assert set(names) <= targets
        elif tool == "dvc":
            assert row.command.startswith("dvc repro ") and all(f"  {name}:\n" in stages for name in names[1:])
        else:
            assert row.command.startswith("python -m ") and (ROOT / f"{names[1].replace('.', '/')}.py").exists()


@pytest.mark.parametrize("name", PAGES)
def test_18_no_figure_is_typed(name: str) -> None:
    """Outside the generated table a number has a unit only where it is none that was measured."""
    page = (ROOT / name).read_text(encoding="utf-8")
    before, _, rest = page.partition(figures.BEGIN)
    prose = " ".join((before + rest.partition(figures.END)[2]).split())
    for stated in STATED.get(name, []):
        assert stated in prose
        prose = prose.replace(stated, "")
    assert MEASURE.findall(prose) == []
