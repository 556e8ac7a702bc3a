"""The process in which a user's own metric runs: `python -m … file function calls.json scores.json`.

Standard library only, so that it starts at once and a user's code finds nothing of the evaluation in its memory. Ends
with the scores of all calls in `scores.json`, or with at which call the function failed and why.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

Function = Callable[[list[dict[str, str]], str, str, dict[str, Any]], Any]
NAME = re.compile(r"[a-z][a-z0-9_]*")


def score_all(path: Path, function: str, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`scores`: a row of figures for each call; or `failed`: the call, the traceback's last line, and the line's number
    in the file."""
    at = "it cannot be loaded"
    rows: list[dict[str, float]] = []
    try:
        score = loaded(path, function)
        for call in calls:
            at = call["of"]
            value = score(call["messages"], call["answer"], call["reference"], call["meta"])
            rows.append(checked(function, value, rows[0] if rows else None))
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve()]
        place = f" (line {lines[-1]})" if lines else ""
        return {"failed": f"{at}: {traceback.format_exception_only(error)[-1].strip()}{place}"}
    return {"scores": rows}


def loaded(path: Path, function: str) -> Function:
    """The function of that name in the file, whose folder its imports are looked for in first."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up by its name
    spec.loader.exec_module(module)
    found: Any = getattr(module, function, None)
    if not callable(found):
        raise ValueError(f"there is no function {function!r} in it")
    return found


def checked(function: str, value: Any, first: Mapping[str, float] | None) -> dict[str, float]:
    """A returned value as figures by name; raises `ValueError` for what cannot stand beside the `first` ones."""
    row = value if isinstance(value, dict) else {function: value}
    for name, number in row.items():
        if not isinstance(number, Real) or not math.isfinite(number):
            raise ValueError(f"returned {number!r} as {name}, not a finite number")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a figure: small letters, digits and underscores")
    if not row or (first is not None and row.keys() != first.keys()):
        raise ValueError(f"returned {sorted(row)}, where each answer needs the same figures: {sorted(first or ())}")
    return {name: float(number) for name, number in row.items()}


def main() -> None:
    path, function, given, found = sys.argv[1:]
    document = score_all(Path(path), function, json.loads(Path(given).read_bytes()))
    Path(found).write_text(json.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main()
