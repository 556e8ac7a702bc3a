"""From a served response back to what made it: deployment, artifact, parameters, parents, data version, licences.

Follows digests only: a folder on this machine counts as the artifact if its manifest has the recorded digest, and the
answer says so where it has not (it was trained again since, or lies on another machine). Reads, never writes.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.artifact import MANIFEST, ArtifactError, Manifest, read_manifest
from components.events.read import feedback_on, finished, get_deployment, request
from components.paths import DATA, IMAGE_BASE, IMAGE_SOURCE, TEXT_BASE
from components.stage import StageError

Answer = dict[str, Any]
SPLITS = ("train", "validation", "test")


def trace(response_id: str, events_url: str, artifact_root: Path) -> Answer:
    """All that is known of how a response came to be; raises `StageError` for an id that no response has."""
    accepted = request(events_url, response_id)
    if accepted is None:
        raise StageError(f"no response {response_id!r} in the events; its id is the response's `id` or x-request-id")
    ended = finished(events_url, response_id)
    answered = (ended or {}).get("answered_by") or accepted["deployment"]
    deployment = get_deployment(events_url, answered)
    answer: Answer = {
        "response": {**accepted, **(ended or {"outcome": "not finished"}), "time": accepted["time"]},
        "feedback": feedback_on(events_url, response_id),
        "deployment": deployment.model_dump() if deployment else None,
    }
    if ended and ended["adapter"]:
        answer["adapter"] = identify(artifact_root / "text" / "adapters" / ended["adapter"], ended["adapter"])
    if deployment is not None:
        answer |= chain(deployment.line, deployment.digest, artifact_root)
    return answer


def chain(line: str, digest: str, artifact_root: Path) -> Answer:
    """The package of `digest`, its parents by role, and the licences of the samples it learnt from."""
    places = [artifact_root / line / name for name in ("package", "endpoint")]
    folder, parents = next((place for place in places if manifest_of(place, digest)), places[0]), {}
    if package := manifest_of(folder, digest):
        parents = {role: (folder_of(role, line, artifact_root), parent) for role, parent in package.parents.items()}
    data = parents.get("data")
    return {
        "artifact": identify(folder, digest),
        "parents": {role: identify(*parent) for role, parent in parents.items()},
        "licences": licences_of(data[0]) if data and manifest_of(*data) else None,
    }


def folder_of(role: str, line: str, artifact_root: Path) -> Path:
    """Where this machine keeps an artifact of a role in the chain."""
    root = artifact_root.parent
    if role in ("data", "evaluated_on"):  # the second of an endpoint, which learnt nothing here
        return root / DATA / line / "split"
    if role == "base":
        if line == "text":
            return root / TEXT_BASE
        brought = (root / IMAGE_SOURCE / MANIFEST).exists() and "files" in read_manifest(root / IMAGE_SOURCE).parameters
        return root / (IMAGE_SOURCE if brought else IMAGE_BASE)
    return artifact_root / line / role


def manifest_of(folder: Path, digest: str) -> Manifest | None:
    """The manifest of the artifact of `digest`, if that is what lies in `folder`."""
    try:
        manifest = read_manifest(folder)
    except ArtifactError:
        return None
    return manifest if manifest.digest == digest else None


def identify(folder: Path, digest: str) -> Answer:
    """Whether `folder` is the artifact of `digest`, with its parameters and metrics if it is."""
    manifest = manifest_of(folder, digest)
    other = "made again since: what lies there now has another digest"
    return {
        "digest": digest,
        "folder": str(folder),
        "state": "here" if manifest else other if (folder / MANIFEST).exists() else "not on this machine",
        "parameters": manifest.parameters if manifest else None,
        "metrics": manifest.metrics if manifest else None,
        "made_from": manifest.parents if manifest else None,
    }


def licences_of(split: Path) -> dict[str, int]:
    """How many samples of a data version carry each licence."""
    count: Counter[str] = Counter()
    for name in SPLITS:
        for meta in pq.read_table(split / f"{name}.parquet", columns=["meta"])["meta"].to_pylist():
            count[json.loads(meta or "{}").get("licence") or "not stated"] += 1
    return dict(count.most_common())


def explain(response_id: str, events_url: str, artifact_root: Path) -> str:
    """`trace` as text for a terminal."""
    answer = trace(response_id, events_url, artifact_root)
    lines = _response(answer["response"], answer["feedback"])
    deployment = answer["deployment"]
    if deployment is None:
        return "\n".join(
            [*lines, "deployment   not recorded: the service ran without a release, so the chain ends here"]
        )
    lines.append(f"deployment   {deployment['deployment']} (Bento {deployment['bento']})")
    lines.append(f"model        {deployment['model']} version {deployment['version']} in MLflow")
    artifacts = {role: answer[role] for role in ("artifact", "adapter") if role in answer}
    for role, artifact in [*artifacts.items(), *answer["parents"].items()]:
        lines += _artifact(role, artifact)
    lines += [f"licence      {count} samples: {name}" for name, count in (answer["licences"] or {}).items()]
    return "\n".join(lines)


def _response(response: Answer, feedback: list[Answer]) -> list[str]:
    lines = [f"response     {response['request_id']} ({response['line']} line, {response['outcome']})"]
    if response["experiment"]:
        share = f"{100 * response['propensity']:g} % of users"
        lines.append(f"experiment   {response['experiment']}, variant {response['variant']} ({share})")
    if (answered := response.get("answered_by")) and answered != response["deployment"]:
        lines.append(f"asked        {response['deployment']}, which failed; {answered} answered instead")
    if response.get("prompt"):
        lines += [f"prompt       {response['prompt']}", f"output       {response['output']}"]
    return lines + [f"feedback     {row['kind']} {row['value']:g}" for row in feedback]


def _artifact(role: str, artifact: Answer) -> list[str]:
    lines = [f"{role:<12} {artifact['digest'][:16]}  {artifact['folder']} ({artifact['state']})"]
    for key, value in (artifact["parameters"] or {}).items():
        lines.append(f"{'':<12}   {key} = {json.dumps(value, ensure_ascii=False)}")
    if role in ("data", "adapter"):
        lines += [f"{'':<12}   from {name} {digest[:16]}" for name, digest in (artifact["made_from"] or {}).items()]
    return lines
