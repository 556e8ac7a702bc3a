"""Benchmarks are found by name, and each name runs what is there."""

from __future__ import annotations

import pytest

from tests.bench.__main__ import BENCHES, commands, main
from tests.conftest import ROOT


@pytest.mark.parametrize("name", BENCHES)
def test_a_name_runs_modules_that_are_there(name: str) -> None:
    for module in BENCHES[name].modules:
        assert (ROOT / f"tests/bench/{module}.py").is_file()


def test_stages_come_first_and_arguments_go_on() -> None:
    stages, bench = commands(BENCHES["adapter"], ["-k", "one"])
    assert stages == ["dvc", "repro", "package@text"] and bench[-3:] == ["tests/bench/bench_adapter.py", "-k", "one"]
    assert commands(BENCHES["load"], ["--line", "text"])[0][1:] == ["-m", "tests.bench.load", "--line", "text"]


def test_an_unknown_name_is_named_and_all_others_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drfit"]) == 2
    listed, error = capsys.readouterr()
    assert "'drfit'" in error and "NAME=drift" in listed
    assert main([]) == 0
