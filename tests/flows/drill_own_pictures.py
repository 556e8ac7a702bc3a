"""Somebody's own pictures and pipeline through the loop by README's commands, with nothing but params.yaml changed.

The pipelines are tiny ones with random weights: what is proved is the way, not the pictures.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import httpx
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from components.config.document import read_yaml, write_yaml
from components.evaluation.psnr import psnr
from flows.environment import PORTS
from tests.bentos.processes import ROOT, free_port
from tests.infra.prometheus.test_delivery import eventually
from tests.tiny_clip import write_tiny_clip
from tests.tiny_pipelines import SIZE, WRITERS

COLOURS = ("red", "green", "blue", "orange", "purple", "black")
SHAPES = ("disc", "box", "ring", "cross", "bar", "wedge")
STEPS, GUIDANCE = 4, 2.0
PROMPT = "a red disc"
STAGES = ("package@image", "evaluate_forgetting")  # of the image line; the text line's are another drill's


@dataclass
class Project:
    """A clone of this project, of what is committed, and the user's commands in it."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)

    def run(self, *command: str, fails: bool = False) -> str:
        """What a command prints; it ends with an error where `fails`, and only there."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("ATELIER_", "PREFECT_"))}
        environment = own | {
            "PYTHONPATH": str(self.folder),
            "BENTOML_HOME": str(self.folder / ".atelier/bentoml"),
            "PREFECT_HOME": str(self.folder / ".atelier/prefect"),
        }
        program = {"atelier": ["-m", "flows.cli"], "dvc": ["-m", "dvc"]}[command[0]]
        ended = subprocess.run(
            [sys.executable, *program, *command[1:]],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = ended.stdout + ended.stderr
        assert (ended.returncode != 0) == fails, said
        return said

    def set(self, **sections: dict[str, Any]) -> None:
        """Change params.yaml: section → key → value, where a value that is an object changes its own keys alone."""
        document = read_yaml(self.folder / "params.yaml")
        for section, values in sections.items():
            for key, value in values.items():
                inner = document[section].get(key)
                document[section][key] = inner | value if isinstance(inner, dict) and isinstance(value, dict) else value
        write_yaml(self.folder / "params.yaml", document)

    def metrics(self, stage: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / f"metrics/image/{stage}.json").read_text())
        return document

    def paint(self, **body: Any) -> httpx.Response:
        """A picture by the gateway."""
        key = (self.folder / ".atelier/api-key").read_text().strip()
        return httpx.post(
            f"http://127.0.0.1:{self.ports['gateway']}/v1/images/generations",
            headers={"Authorization": f"Bearer {key}"},
            json={"model": "atelier-image", "prompt": PROMPT} | body,
            timeout=120,
        )


def draw(shape: str, colour: str, size: tuple[int, int]) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    pen, (width, height) = ImageDraw.Draw(picture), size
    box = (width // 6, height // 6, width - width // 6, height - height // 6)
    match shape:
        case "disc":
            pen.ellipse(box, fill=colour)
        case "box":
            pen.rectangle(box, fill=colour)
        case "ring":
            pen.ellipse(box, outline=colour, width=6)
        case "cross":
            pen.line(box, fill=colour, width=6)
        case "bar":
            pen.rectangle((box[0], height // 3, box[2], height // 2), fill=colour)
        case _:
            pen.polygon([(box[0], box[3]), (box[2], box[3]), (width // 2, box[1])], fill=colour)
    return picture


def write_pictures(folder: Path) -> None:
    """36 captioned pictures of three shapes, and two that nobody can use: wider than 4:1, and no picture."""
    folder.mkdir()
    rows = []
    for number, (shape, colour) in enumerate((shape, colour) for shape in SHAPES for colour in COLOURS):
        draw(shape, colour, [(96, 96), (128, 64), (70, 120)][number % 3]).save(folder / f"{number}.png")
        rows.append({"file_name": f"{number}.png", "text": f"a {colour} {shape}"})
    draw("bar", "red", (410, 100)).save(folder / "wide.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n")
    rows += [{"file_name": f"{name}.png", "text": f"a {name} one"} for name in ("wide", "broken")]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def project_in(folder: Path) -> Project:
    """A clone with the user's pictures and models in it, and params.yaml as they would set it."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / "data/assets").symlink_to((ROOT / "data/assets").resolve())
    write_pictures(folder / "my-pictures")
    for name, write in WRITERS.items():
        write(folder / "models" / name)
    write_tiny_clip(folder / "models/clip")
    made = Project(folder)
    settings: dict[str, dict[str, Any]] = {
        "serving": {"image_steps": STEPS, "image_guidance": GUIDANCE, "recheck": 1.0}
    }
    for program, parameter in PORTS.items():
        section, key = parameter.split(".")
        made.ports[program] = free_port()
        value = f"http://127.0.0.1:{made.ports[program]}" if key == "url" else made.ports[program]
        settings.setdefault(section, {})[key] = value
    made.set(
        base={"image": {"model": "models/sdxl"}},
        prepare={"image": {"path": "my-pictures"}},
        train={"image": {"max_steps": 20, "batch_size": 4, "learning_rate": 0.01, "lora_rank": 4}},
        **settings,
    )
    return made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = project_in(tmp_path_factory.mktemp("own") / "atelier")
    try:
        yield made
    finally:
        made.run("atelier", "down")


def picture_of(response: httpx.Response) -> np.ndarray[Any, Any]:
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(response.json()["data"][0]["b64_json"]))))


def test_sdxl_is_made_and_gated_with_nothing_but_params_changed(project: Project) -> None:
    assert "nothing" in project.run("atelier", "model", "show", "models/sdxl").split("missing")[1].split("engines")[0]
    said = project.run("dvc", "repro", *STAGES)
    assert "36 kept, 2 rejected" in said and "beyond 4:1; crop it" in said
    assert project.metrics("train")["buckets"] == 3
    assert project.metrics("gate")["passed"] and project.metrics("verify")["passed"]


def test_it_is_served_and_the_picture_is_that_of_plain_diffusers_with_the_adapter(project: Project) -> None:
    project.run("atelier", "release", "start", "image")
    response = project.paint(seed=3)
    served = picture_of(response)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(project.folder / "models/sdxl", use_safetensors=True)
    pipeline.load_lora_weights(
        project.folder / "artifacts/image/checkpoint", weight_name="pytorch_lora_weights.safetensors"
    )
    noise = torch.Generator().manual_seed(3)
    plain = pipeline(
        PROMPT, height=SIZE, width=SIZE, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=noise
    ).images[0]
    assert psnr(np.asarray(plain), served) > 35
    said = project.run("atelier", "report", "why", response.headers["x-request-id"])
    for part in (PROMPT, 'source = "models/sdxl"', 'licence = "apache-2.0"', "lora_rank = 4", "from metadata.jsonl"):
        assert part in said
    too_long = project.paint(prompt="a red disc " * 910)
    assert too_long.status_code == 400 and "at most 4000 characters" in too_long.text
    read = project.paint(prompt="a red disc " * 300).json()["data"][0]["revised_prompt"]
    assert PROMPT.startswith(read[:5]) and len(read) < 40  # what the text encoders read of it
    assert "again within a day: 2 same; 0 wait" in project.run("atelier", "report", "recheck")


def test_an_experiment_divides_users(project: Project) -> None:
    document = read_yaml(project.folder / "params.yaml")
    variants = {"control": {"weight": 0.5}, "treatment": {"weight": 0.5, "guidance": 8.0}}
    own = {"name": "image-guidance", "line": "image", "salt": "image-guidance-1", "variants": variants}
    document["experiments"] = [document["experiments"][0] | own]
    write_yaml(project.folder / "params.yaml", document)
    project.run("atelier", "experiment", "apply", "--why", "more guidance may please")
    eventually(lambda: "x-variant" in project.paint(seed=3, user="somebody").headers, 20)
    painted = [project.paint(seed=3, user=f"user-{number}") for number in range(24)]
    pictures = {(response.headers["x-variant"], picture_of(response).tobytes()) for response in painted}
    assert {variant for variant, _ in pictures} == {"control", "treatment"} and len({p for _, p in pictures}) == 2
    said = project.run("atelier", "report", "why", painted[0].headers["x-request-id"])
    assert f"image-guidance, variant {painted[0].headers['x-variant']}" in said
    assert "image-guidance" in project.run("atelier", "experiment", "list")


def test_another_training_is_compared_and_goes_on_trial_beside_the_champion(project: Project) -> None:
    project.set(train={"image": {"max_steps": 30}}, evaluate={"image": {"encoder": "models/clip"}})
    project.run("dvc", "repro", "package@image")
    print(project.run("atelier", "release", "start", "image", "--canary", "--force", "the encoder is a random one"))
    print(project.run("atelier", "status"))
    assert "shadow" in project.run("atelier", "status")
    picture_of(project.paint(seed=4))
    project.run("atelier", "release", "rollback", "image", "--why", "enough was seen")


@pytest.mark.parametrize(
    ("name", "engine", "weight_format"), [("sd3", "openvino", "int8"), ("flux", "onnxruntime", "f16")]
)
def test_flow_matching_pipelines_are_packaged_too(project: Project, name: str, engine: str, weight_format: str) -> None:
    export = {"engine": engine, "weight_format": weight_format}
    project.set(base={"image": {"model": f"models/{name}"}}, export={"image": export})
    project.run("dvc", "repro", "package@image")
    assert project.metrics("gate")["passed"] and project.metrics("verify")["parity"][engine]["passed"]
