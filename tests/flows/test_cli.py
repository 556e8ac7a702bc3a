"""The command line gives one clear line and an honest exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli, release, stack
from tests.flows.releasing import Machine
from tests.flows.releasing import machine as machine

ROOT = Path(__file__).resolve().parents[2]
CALL = [sys.executable, "-c", "from flows.cli import main; main()"]


@pytest.mark.parametrize(("program", "message"), [("nonsense", "no program 'nonsense'; there are")])
def test_an_unknown_program_is_refused(program: str, message: str) -> None:
    answer = subprocess.run([*CALL, "serve", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr


def test_releases_are_told_rolled_back_with_a_reason_and_listed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*arguments: str) -> str:
        answer = CliRunner().invoke(cli.app, arguments)
        assert answer.exit_code == 0, answer.output
        return answer.output

    monkeypatch.setattr(cli, "load", lambda: machine.params)
    monkeypatch.setattr(stack, "supervisor_pid", lambda: None)
    assert "text: no events database at" in call("status")
    for name in ("a", "b"):
        release.record_release.fn("text", machine.deploy(name), machine.params)
    running, text, image = call("status").splitlines()
    assert (running, image) == ("nothing is running", "image: no release recorded yet; `atelier release` makes one")
    assert text.startswith("text: champion text-b.1 (champion since ")
    assert CliRunner().invoke(cli.app, ["rollback", "text"]).exit_code == 2  # a reason is asked for
    assert "champion text-a.1" in call("rollback", "text", "--why", "odd")
    listed = call("history", "text").splitlines()
    assert len(listed) == 9
    assert "text-a.1 retired → champion (reinstatement) by" in listed[-1]
