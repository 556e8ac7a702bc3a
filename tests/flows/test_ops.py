"""The ops page is written by the command, and at the end of the step that a schedule makes each minute."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.config import Params
from components.events.database import DatabaseError
from flows import canary, cli, commands
from tests.monitoring.test_report import params_in


@pytest.fixture
def params(tmp_path: Path) -> Params:
    return params_in(tmp_path)


def test_the_command_writes_the_page_and_prints_its_path(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "load", lambda: params)
    answer = CliRunner().invoke(cli.app, ["report", "ops"])
    page = Path(answer.output.strip())
    assert (answer.exit_code, page.name) == (0, "ops.html")
    assert 'http-equiv="refresh" content="60"' in page.read_text()


def test_the_step_of_each_minute_writes_it_even_where_the_step_fails(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "load", lambda: params)
    assert canary.canary.fn() == ["text: no candidate on trial", "image: no candidate on trial"]
    page = tmp_path / "reports" / "ops.html"
    assert "text has no champion yet" in page.read_text()
    page.unlink()
    (tmp_path / "events.db").write_text("this is no database, but long enough to be taken for one " * 40)
    with pytest.raises(DatabaseError, match="file is not a database"):
        canary.canary.fn()
    assert "file is not a database" in page.read_text()
