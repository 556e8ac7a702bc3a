"""README's figures are those of `metrics/`."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
figures = runpy.run_path(str(ROOT / "infra" / "figures.py"))


def test_18_the_table_is_what_the_metrics_say() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count(figures["BEGIN"]) == readme.count(figures["END"]) == 1
    assert figures["written"](readme, ROOT / "metrics") == readme, "run `make figures`"


def test_18_another_figure_is_another_table(tmp_path: Path) -> None:
    """And a file that is not there is no row."""
    document = {"before": {"top1": 0.93}, "after": {"top1": 0.58, "pictures": 100}}
    (tmp_path / "image").mkdir()
    (tmp_path / "image/forgetting.json").write_text(json.dumps(document))
    (row,) = figures["table"](tmp_path).splitlines()[2:]
    assert "| 93 % → 58 % of 100 |" in row
    readme = f"a\n{figures['BEGIN']}an old table\n{figures['END']}b\n"
    text = figures["written"](readme, tmp_path)
    assert "an old table" not in text and row in text
    assert text.startswith("a\n") and text.endswith("b\n")
    assert figures["written"](text, tmp_path) == text


def test_18_every_command_of_the_table_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    stages = (ROOT / "dvc.yaml").read_text()
    for row in figures["ROWS"]:
        tool, *names = row.command.split()
        if tool == "make":
            assert set(names) <= targets
        elif tool == "dvc":
            assert row.command.startswith("dvc repro ") and all(f"  {name}:\n" in stages for name in names[1:])
        else:
            assert row.command == f"python -m {names[1]}" and (ROOT / f"{names[1].replace('.', '/')}.py").exists()
    tracked = subprocess.run(["git", "ls-files", "metrics"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode == 0:
        assert {f"metrics/{row.source}" for row in figures["ROWS"]} <= set(tracked.stdout.split())
