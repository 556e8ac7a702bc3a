"""Filters of pictures that `params.yaml` may list: aspect, blank and blurred ones. Pure.

What needs a model, as text in a watermark or what is not safe for work, is not looked for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pydantic import Field

from components.data.filters import Candidate, Chosen

# Of scikit-learn's two photographs and of line drawings a blur of 1 % of the longer side leaves about this sharpness;
# sharp they have 0.2 to 1.3, and enlarged three times 0.03 at least.
_SHARP = 0.01
# The longer side in pixels of the picture on which blur is measured, so that sizes compare.
_MEASURED = 256
# Of the Laplacian of what rounding to whole steps leaves, 1/12 a pixel: without contrast there is nothing else.
_ROUNDING = 20 / 12


class Aspect(Chosen):
    """A picture that is too wide or too high."""

    name: Literal["aspect"] = "aspect"
    max_ratio: Annotated[float, Field(ge=1)] = Field(default=2.0, description="Longer to shorter side, at most")

    def fault(self, candidate: Candidate) -> str:
        width, height = candidate.picture.size
        if max(width, height) <= self.max_ratio * min(width, height):
            return ""
        return f"picture of {width}×{height} pixels, beyond {self.max_ratio:g}:1; crop it"


class Blank(Chosen):
    """A picture of one colour, whichever that is."""

    name: Literal["blank"] = "blank"
    tolerance: Annotated[int, Field(ge=0, le=255)] = Field(
        default=8, description="Steps of 255 by which pixels of one colour may differ, as JPEG makes them"
    )

    def fault(self, candidate: Candidate) -> str:
        extrema: Any = candidate.picture.getextrema()  # of each of three channels
        widest = max(high - low for low, high in extrema)
        return f"picture of one colour: no two pixels differ by more than {widest}" if widest <= self.tolerance else ""


class Blurred(Chosen):
    """A picture without sharp edges, by the variance of its Laplacian in parts of its own variance.

    Measured in grey on the picture shrunk to 256 pixels on its longer side, as it is blurred in the size that it is
    seen in, not in that of its file; a smaller picture is measured as it is. The share makes pale pictures comparable.
    """

    name: Literal["blurred"] = "blurred"
    min_sharpness: Annotated[float, Field(gt=0)] = Field(
        default=_SHARP, description="Variance of the Laplacian in parts of the picture's own, at least"
    )

    def fault(self, candidate: Candidate) -> str:
        sharpness = _sharpness(candidate.picture)
        if sharpness >= self.min_sharpness:
            return ""
        return f"blurred picture: a sharpness of {sharpness:.2g}, less than {self.min_sharpness:g}"


def _sharpness(picture: Image) -> float:
    """The variance of the Laplacian in parts of the picture's variance; 0 of one colour."""
    small = picture.convert("L")
    small.thumbnail((_MEASURED, _MEASURED))
    grey_HW: NDArray[np.float32] = np.asarray(small, np.float32)
    inner = grey_HW[1:-1, 1:-1]
    around = grey_HW[:-2, 1:-1] + grey_HW[2:, 1:-1] + grey_HW[1:-1, :-2] + grey_HW[1:-1, 2:]
    contrast = float(grey_HW.var())
    edges = float((around - 4 * inner).var()) - _ROUNDING if inner.size else 0.0
    return max(edges, 0.0) / contrast if contrast else 0.0


PICTURE_RULES: tuple[type[Chosen], ...] = (Aspect, Blank, Blurred)
