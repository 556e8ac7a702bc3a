"""Stage `evaluate_image`: the built-in network by the shipped judge, a brought pipeline by what the user names."""

from __future__ import annotations

from components import config
from components.evaluation import image, pipeline
from components.models.brought import BUILT_IN
from components.stage import run


def main() -> None:
    """Write `metrics/image/evaluate.json`, a row for each picture and the sheets."""
    params = config.load()
    if params.base.image.model == BUILT_IN["image"]:
        image.main(params)
    else:
        pipeline.evaluate(params)


if __name__ == "__main__":
    run(main)
