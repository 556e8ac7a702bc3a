"""Each key says what it is for, what it takes and what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from components.config import ConfigError, Params, Settings, load
from components.config.keys import describe, keys

ROOT = Path(__file__).resolve().parents[3]


class Part(Settings):
    size: int | None = Field(ge=1, default=None, description="Size, in pixels")


class Whole(Settings):
    share: float = Field(gt=0, le=0.5, description="A share")
    parts: dict[str, Part] = Field(description="Parts by name")
    first: Part


def test_every_key_says_what_it_is_for() -> None:
    assert [key.name for key in keys(Params) if not key.description] == []


def test_every_value_of_the_file_is_one_of_a_key() -> None:
    rows = describe(load(ROOT / "params.yaml"), "")
    names = [name for name, *_ in rows]
    assert len(names) == len(set(names)) > 150
    assert {"serving.host", "fetch.packages.*.version", "experiments.*.guardrails.slo_s", "tune.line"} <= set(names)


def test_a_key_tells_its_value_and_its_bounds_and_an_entry_stands_for_all() -> None:
    settings = Whole(share=0.25, parts={"a": Part(size=3), "b": Part(size=4)}, first=Part())
    assert describe(settings, "") == [
        ("share", "0.25", "number, > 0, ≤ 0.5", "A share"),
        ("parts", "", "section for each name", "Parts by name"),
        ("parts.*.size", "3, 4", "whole number, ≥ 1 or null", "Size, in pixels"),
        ("first.size", "null (default)", "whole number, ≥ 1 or null", "Size, in pixels"),
    ]
    assert [name for name, *_ in describe(settings, "parts.b")] == ["parts.*.size"]
    assert [name for name, *_ in describe(settings, "first")] == ["first.size"]


@pytest.mark.parametrize(
    ("prefix", "meant"), [("frist", "first"), ("size", "first.size"), ("parts.a.siez", "parts.a.size")]
)
def test_an_unknown_key_names_the_nearest(prefix: str, meant: str) -> None:
    settings = Whole(share=0.25, parts={"a": Part()}, first=Part())
    with pytest.raises(ConfigError, match=rf"no parameter begins with '{prefix}'; did you mean {meant}\?"):
        describe(settings, prefix)
