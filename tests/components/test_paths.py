"""Places and addresses stand once: in `components/paths.py`, or in params.yaml."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.config.document import read_yaml

ROOT = Path(__file__).parents[2]
PLACE = re.compile(r"\.atelier\b|^(data|artifacts)/|^components/models/base\b")


def literals(tree: ast.AST) -> Iterator[str]:
    """Each text and number of the code, but for docstrings; what is joined to the project ends with a slash."""
    documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node not in documentation:
            yield str(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            yield f"{node.right.value}/" if ast.unparse(node.left).endswith("ROOT") else ""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Path":
            yield from (f"{argument.value}/" for argument in node.args if isinstance(argument, ast.Constant))


@pytest.mark.parametrize("folder", ["bentos", "components", "flows", "infra", "monitoring"])
def test_22_no_place_is_written_beside_the_module_of_places_and_no_port_beside_its_setting(folder: str) -> None:
    document = read_yaml(ROOT / "params.yaml")
    settings = {**document["serving"], **document["stack"]}
    ports = {str(value) for name, value in settings.items() if name.endswith("_port")}
    found = {
        (str(file.relative_to(ROOT)), literal)
        for file in (ROOT / folder).rglob("*.py")
        if file != ROOT / "components/paths.py" and file.name != "bench.py"
        for literal in literals(ast.parse(file.read_bytes()))
        if PLACE.search(literal) or literal in ports
    }
    assert found == set()
