"""The command line gives one clear line and an honest exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.config import ConfigError
from components.events.database import DatabaseError
from flows import cli, commands, release, rollback, stack
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

    monkeypatch.setattr(commands, "load", lambda: machine.params)
    monkeypatch.setattr(stack, "supervisor_pid", lambda: None)
    assert "text: no events database at" in call("status")
    for name in ("a", "b"):
        release.record_release.fn("text", machine.deploy(name), machine.params)
    running, text, image = call("status").splitlines()
    assert (running, image) == (
        "nothing is running",
        "image: no release recorded yet; `atelier release start` makes one",
    )
    assert text.startswith("text: champion text-b.1 (champion since ")
    assert CliRunner().invoke(cli.app, ["release", "rollback", "text"]).exit_code == 2  # a reason is asked for
    assert "champion text-a.1" in call("release", "rollback", "text", "--why", "odd")
    listed = call("release", "history", "text").splitlines()
    assert len(listed) == 9
    assert "text-a.1 retired → champion (reinstatement) by" in listed[-1]


def test_status_ends_in_the_error_of_params_that_it_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ConfigError("params.yaml is of another version")

    def fail() -> None:
        raise error

    monkeypatch.setattr(stack, "supervisor_pid", lambda: None)
    monkeypatch.setattr(commands, "load", fail)
    assert CliRunner().invoke(cli.app, ["status"]).exception is error


def test_status_tells_of_the_other_line_where_one_cannot_be_read(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe(line: str, _: object) -> str:
        if line == "text":
            raise DatabaseError("the database is locked")
        return f"{line}: champion image-a.1"

    monkeypatch.setattr(stack, "supervisor_pid", lambda: None)
    monkeypatch.setattr(commands, "load", lambda: machine.params)
    monkeypatch.setattr(rollback, "describe", describe)
    answer = CliRunner().invoke(cli.app, ["status"])
    assert answer.exit_code == 1
    assert answer.stdout == "nothing is running\nimage: champion image-a.1\n"
    assert answer.stderr == "error: text: the database is locked\n"


def test_every_command_is_called_by_what_it_is_about() -> None:
    top = [name for name in cli.COMMANDS if " " not in name]
    assert [*top, *cli.GROUPS] == [
        *("up", "down", "status", "demo", "params"),
        *("data", "pipeline", "model", "train", "release", "experiment", "label", "learn", "report"),
    ]
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    assert "status" in shown and "proof" not in shown and "serve" not in shown
    for group in cli.GROUPS:
        answer = CliRunner().invoke(cli.app, [group, "--help"])
        assert answer.exit_code == 0
        for names in cli.HIDDEN | cli.COMMANDS:
            if names.startswith(f"{group} "):
                assert (f" {names.split()[1]} " in answer.output) is (names in cli.COMMANDS), names


@pytest.mark.parametrize(
    ("arguments", "new"),
    [
        (["monitor"], "report write"),
        (["release", "--force", "why"], "release start"),
        (["release"], "release start"),
        (["learn"], "learn run"),
        (["run", "split@image"], "pipeline run"),
        (["annotate", "start"], "label"),
        (["rollback", "text", "--why", "odd"], "release rollback"),
        (["ops", "--help"], "report ops"),
    ],
)
def test_an_old_name_answers_with_the_new_one(
    arguments: list[str], new: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["atelier", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", f"error: atelier {arguments[0]} is now: atelier {new}\n")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["release", "start"], ["learn", "--help"]])
def test_a_name_of_today_is_none_of_the_old_ones(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cli.refuse_old_name(arguments)  # it would end here
    assert capsys.readouterr() == ("", "")


def test_every_renamed_command_is_there() -> None:
    commands_and_groups = cli.COMMANDS | cli.HIDDEN | cli.GROUPS
    assert set(cli.RENAMED.values()) <= commands_and_groups.keys()


def test_parameters_are_listed_with_their_bounds_and_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    header, *rows = CliRunner().invoke(cli.app, ["params", "train.text"]).output.splitlines()
    assert header.split()[:2] == ["key", "value"]
    assert all(row.startswith("train.text.") for row in rows)
    (rank,) = (row for row in rows if row.startswith("train.text.lora_rank "))
    assert rank.split()[1:6] == ["8", "whole", "number,", "≥", "1"] and "Rank of the low-rank adapter" in rank
    with pytest.raises(ConfigError, match=r"begins with 'train.txet'; did you mean train.text\?"):
        CliRunner().invoke(cli.app, ["params", "train.txet"], catch_exceptions=False)
