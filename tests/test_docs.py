"""README and docs: links lead somewhere, and commands, modules and parameters that they name exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from components.config.document import read_yaml
from flows.cli import app
from tests.bench.__main__ import BENCHES
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
MODULE = re.compile(r"\b(?:bentos|components|flows|infra|monitoring|tests)/[\w/.-]*[\w/]")
PARAMETER = re.compile(r"[a-z_]+(?:\.[a-z_]+)*\.(?!csv|db)[a-z_]+")
COMMAND_WORD = re.compile(r"[a-z][a-z-]*")


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code(page: Path) -> Iterator[str]:
    """Each line of a page's code blocks, and what stands between backticks, without comments."""
    for block, inline in CODE.findall(page.read_text(encoding="utf-8")):
        for line in (block or inline).splitlines():
            yield line.partition("  #")[0].strip()


def anchors(page: Path) -> set[str]:
    """A page's anchors, as GitHub makes them of its headings."""
    headings = (heading.replace("`", "").lower() for heading in HEADING.findall(page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}


def commands(tool: str) -> set[str]:
    """The commands of a tool that some page names, up to what follows as argument."""
    calls = {line for page in PAGES for line in code(page) if line.startswith(f"{tool} ")}
    return {call for call in calls if COMMAND_WORD.match(call.removeprefix(f"{tool} "))}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_relative_link_leads_to_a_file_and_its_anchor(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_readme_is_one_short_page() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 120
    assert [line for line in lines if len(line) > 120] == []


def test_every_page_is_found_from_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert [name for name in pages if f"(docs/{name})" not in readme] == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_file_of_the_project_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [path for path in MODULE.findall(text) if not (ROOT / path).exists()] == []
    modules = [name.replace(".", "/") for name in re.findall(r"python -m ([\w.]+)", text)]
    known = [name for name in modules if name.split("/")[0] in ("components", "flows", "infra", "tests")]
    missing = [name for name in known if not any((ROOT / name).with_suffix(end).exists() for end in (".py", ""))]
    assert missing == []


def test_every_make_target_is_on_the_page_of_commands_and_every_named_one_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):.*?## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = commands("make")
    assert {call.split()[1] for call in named} <= targets
    benches = {word.removeprefix("NAME=") for call in named for word in call.split() if word.startswith("NAME=")}
    assert benches - {"…"} <= BENCHES.keys()
    page = ROOT / "docs" / "commands.md"
    assert targets - {call.split()[1] for call in code(page) if call.startswith("make ")} == set()


def test_every_benchmark_is_on_the_page_of_benchmarks() -> None:
    assert BENCHES.keys() <= set(code(ROOT / "docs" / "benchmarks.md"))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_parameter_that_a_page_names_is_in_params_yaml(page: Path) -> None:
    document = read_yaml(ROOT / "params.yaml")
    names = {name for name in code(page) if PARAMETER.fullmatch(name) and name.split(".")[0] in document}
    assert [name for name in sorted(names) if not has(document, name)] == []


def has(document: Any, name: str) -> bool:
    for key in name.split("."):
        if not isinstance(document, dict) or key not in document:
            return False
        document = document[key]
    return True


def test_every_atelier_command_is_on_the_page_of_commands_and_every_named_one_exists() -> None:
    root = typer.main.get_command(app)
    assert [call for call in sorted(commands("atelier")) if not resolves(root, call.split()[1:])] == []
    on_page = tuple(f"{call} " for call in code(ROOT / "docs" / "commands.md"))
    missing = [name for name in visible(root, "atelier") if not any(call.startswith(f"{name} ") for call in on_page)]
    assert missing == []


def resolves(command: click.Command, words: list[str]) -> bool:
    """Whether the words name a command that is no mere group, with as many arguments and such options as it has."""
    if isinstance(command, click.Group):
        following = command.commands.get(words[0]) if words else None
        return following is not None and resolves(following, words[1:])
    arguments = list(takewhile(lambda word: not word.startswith("--"), words))
    room = [parameter.nargs for parameter in command.params if isinstance(parameter, click.Argument)]
    options = {option for parameter in command.params for option in parameter.opts}
    return (-1 in room or len(arguments) <= sum(room)) and {word for word in words if word.startswith("--")} <= options


def visible(command: click.Command, name: str) -> Iterator[str]:
    """The full names of all commands that help shows."""
    if command.hidden:
        return
    if not isinstance(command, click.Group):
        yield name
        return
    for word, part in command.commands.items():
        yield from visible(part, f"{name} {word}")
