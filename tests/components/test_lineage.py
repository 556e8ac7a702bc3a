from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pandas as pd
import pytest

from components.artifact import Manifest, seal
from components.events.database import opened
from components.events.read import record_deployment
from components.events.store import EventStore, commit
from components.lineage import explain, trace
from components.stage import StageError
from tests.components.events.examples import DEPLOYMENT, accepted, finished, like


def artifact(folder: Path, kind: str, parents: dict[str, str], parameters: dict[str, object]) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text(kind)
    return seal(folder, line="text", kind=kind, parents=parents, parameters=parameters, metrics={})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine that has the whole chain of one text package."""
    split = tmp_path / "data" / "text" / "split"
    split.mkdir(parents=True)
    for name, licences in (("train", ["MIT", "MIT", None]), ("validation", ["MIT"]), ("test", ["CC BY-SA 4.0"])):
        meta = [json.dumps({"licence": licence} if licence else {}) for licence in licences]
        pd.DataFrame({"meta": meta}).to_parquet(split / f"{name}.parquet")
    data = artifact(split, "data", {"emojis": "e" * 64}, {"seed": 7})
    base = artifact(
        tmp_path / "data" / "base" / "text", "base", {}, {"licence": "Apache-2.0", "files": {"a": "1" * 64}}
    )
    parents = {"data": data.digest, "base": base.digest}
    checkpoint = artifact(tmp_path / "artifacts" / "text" / "checkpoint", "checkpoint", parents, {"lora_rank": 8})
    parents |= {"checkpoint": checkpoint.digest}
    artifact(tmp_path / "artifacts" / "text" / "package", "package", parents, {"weight_format": "int8"})
    return tmp_path


def serve(root: Path, *, deployed: bool = True) -> str:
    url = f"sqlite:///{root / 'events.db'}"

    async def write() -> None:
        store = await EventStore.open(url)
        await store.append(accepted("chatcmpl-1"))
        await store.append(finished("chatcmpl-1"))
        await store.append(like("chatcmpl-1", "k"))
        await store.close()

    asyncio.run(write())
    if deployed:
        manifest = Manifest.model_validate_json((root / "artifacts/text/package/manifest.json").read_bytes())
        record_deployment(url, DEPLOYMENT.model_copy(update={"digest": manifest.digest}))
    return url


def test_the_adapter_that_wrote_an_answer_is_told_of(root: Path) -> None:
    folder = root / "artifacts/text/adapters/new"
    made = artifact(folder, "adapter", {"feedback": "f" * 64}, {"segment": {"plan": "paid"}})
    folder.rename(folder.with_name(made.digest))
    url = serve(root)
    with opened(url) as engine:
        commit(engine, [accepted("r2"), finished("r2").model_copy(update={"adapter": made.digest})])
    told = explain("r2", url, root / "artifacts")
    assert f"adapter      {made.digest[:16]}" in told and "from feedback ffffffffffffffff" in told
    assert "adapter " not in explain("chatcmpl-1", url, root / "artifacts")


def test_a_response_leads_to_deployment_parameters_parents_and_licences(root: Path) -> None:
    answer = trace("chatcmpl-1", serve(root), root / "artifacts")
    assert answer["deployment"]["bento"] == "text:1"
    assert answer["artifact"]["parameters"] == {"weight_format": "int8"}
    assert answer["parents"]["checkpoint"]["parameters"] == {"lora_rank": 8}
    assert {parent["state"] for parent in answer["parents"].values()} == {"here"}
    assert answer["licences"] == {"MIT": 3, "not stated": 1, "CC BY-SA 4.0": 1}
    assert answer["feedback"][0]["value"] == 1.0
    json.dumps(answer)  # every part can be printed as JSON


def test_the_explanation_names_each_link(root: Path) -> None:
    said = explain("chatcmpl-1", serve(root), root / "artifacts")
    for part in ("variant control", "a fox", "like 1", "text:1", "lora_rank = 8", "from emojis", "3 samples: MIT"):
        assert part in said
    assert "files = 1, sealed by their digests" in said


def test_an_artifact_made_again_since_is_not_taken_for_the_one_that_answered(root: Path) -> None:
    url = serve(root)
    artifact(root / "artifacts" / "text" / "package", "package", {}, {"weight_format": "int4"})
    answer = trace("chatcmpl-1", url, root / "artifacts")
    assert answer["artifact"]["parameters"] is None
    assert "made again since" in explain("chatcmpl-1", url, root / "artifacts")


def test_without_a_recorded_deployment_the_chain_says_where_it_ends(root: Path) -> None:
    assert "chain ends here" in explain("chatcmpl-1", serve(root, deployed=False), root / "artifacts")


def test_an_unknown_response_is_refused(root: Path) -> None:
    with pytest.raises(StageError, match="no response 'chatcmpl-2'"):
        trace("chatcmpl-2", serve(root), root / "artifacts")


def test_14_after_a_fallback_the_deployment_that_answered_is_named(root: Path) -> None:
    url = serve(root)
    record_deployment(url, DEPLOYMENT.model_copy(update={"deployment": "text-2", "digest": "b" * 64}))
    asked = accepted("r2").model_copy(update={"deployment": "text-2"})
    with opened(url) as engine:
        commit(engine, [asked, finished("r2").model_copy(update={"answered_by": "text-1"})])
        commit(engine, [asked.model_copy(update={"request_id": "r3"})])  # still at work: nobody else is known
    assert trace("r2", url, root / "artifacts")["artifact"]["state"] == "here"
    assert "asked        text-2, which failed; text-1 answered instead" in explain("r2", url, root / "artifacts")
    assert trace("r3", url, root / "artifacts")["deployment"]["deployment"] == "text-2"
