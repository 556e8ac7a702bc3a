"""What is expected ends as one line, whatever part of the project raises it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from components import config, stage
from components.artifact import ArtifactError
from components.config import ConfigError
from components.errors import AtelierError
from components.events.database import DatabaseError
from flows import cli, commands

ROOT = Path(__file__).parents[2]
# No command ends with these: they are answers of HTTP, reasons of rejects, or caught where they are raised.
NEVER_SHOWN = {
    "ApiError": "the gateway answers with it",
    "BadOutputError": "counts against a candidate on trial",
    "ClientGone": "ends the work for a caller who has left",
    "EndpointError": "the endpoint Bento answers with it",
    "EngineStoppedError": "the text Bento answers with it",
    "JobFailedError": "the text Bento answers with it",
    "NotFiniteError": "the image Bento answers with it",
    "PictureError": "becomes the reason of a reject",
    "RequestRefusedError": "the text Bento answers with it",
    "TooMuchError": "the gateway closes a connection with it",
    "Unusable": "becomes the reason of a refused row",
}


def exceptions() -> dict[str, set[str]]:
    """The bases of each exception class of the project, by its name."""
    bases: dict[str, set[str]] = {}
    for folder in ("bentos", "components", "flows", "infra", "monitoring"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.ClassDef):
                    bases.setdefault(node.name, set()).update(ast.unparse(base) for base in node.bases)
    builtin = {name for name, value in vars(__import__("builtins")).items() if isinstance(value, type)}
    raised = {name for name in builtin if issubclass(getattr(__import__("builtins"), name), BaseException)}
    while more := {name for name, parents in bases.items() if parents & raised} - raised:
        raised |= more
    return {name: bases[name] for name in raised & bases.keys()}


def test_23_each_error_of_the_project_has_the_one_root_or_is_never_shown() -> None:
    every = exceptions()
    expected = {AtelierError.__name__}
    while more := {name for name, parents in every.items() if parents & expected} - expected:
        expected |= more
    hidden = set(NEVER_SHOWN)
    while more := {name for name, parents in every.items() if parents & hidden} - hidden:
        hidden |= more
    assert {"ArtifactError", "ConfigError", "DatabaseError", "ExperimentError", "StageError"} <= expected
    assert every.keys() - expected == hidden


@pytest.mark.parametrize("kind", [ArtifactError, ConfigError, DatabaseError, stage.StageError, OSError])
def test_23_an_expected_error_of_any_kind_ends_as_one_line(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise kind("this is not there; make it")

    with pytest.raises(SystemExit) as ended:
        stage.guard(command)
    assert ended.value.code == 1 and capsys.readouterr().err == "error: this is not there; make it\n"


def test_23_why_without_a_database_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = config.load()
    events = params.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'events.db'}"})
    monkeypatch.setattr(commands, "load", lambda: params.model_copy(update={"events": events}))
    monkeypatch.setattr("sys.argv", ["atelier", "report", "why", "chatcmpl-1"])
    with pytest.raises(SystemExit) as ended:
        stage.guard(cli.app)
    written = capsys.readouterr().err
    assert ended.value.code == 1 and written.startswith("error: no events database at") and written.count("\n") == 1
