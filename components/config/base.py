"""What all settings share: strictness, and the bounds that recur."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Line = Literal["text", "image"]
Strategy = Literal["auto", "ddp", "deepspeed_stage_2", "deepspeed_stage_3"]
Precision = Literal["fp32", "bf16"]
SMALLEST_FLOAT32 = 2.0**-126  # engines compute in float32, and take positive numbers below this one for 0


def in_float32(value: float) -> float:
    """`value`, unless it is positive and an engine would take it for 0 (`ValueError`)."""
    if 0 < value < SMALLEST_FLOAT32:
        raise ValueError(f"{value:g} is 0 to the engine, which computes in float32: give at least 1.2e-38")
    return value


Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Temperature = Annotated[float, Field(ge=0, le=2), AfterValidator(in_float32)]  # 0 is greedy
TopP = Annotated[float, Field(gt=0, le=1), AfterValidator(in_float32)]
Count = Annotated[int, Field(ge=1)]
# Stands in a header, a log line, a label of a metric: printable ASCII, with no white space around it.
NAME = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?")
Segment = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseModel):
    """Base of all settings: unknown keys, NaN and infinity are refused, and no value is coerced."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
