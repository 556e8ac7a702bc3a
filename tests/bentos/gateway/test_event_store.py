"""An events database that locks or fills: the gateway refuses honestly, keeps what it acknowledged and recovers."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from components.events.database import opened
from components.events.store import commit
from tests.bentos.gateway.conftest import Running, serve_gateway
from tests.bentos.gateway.test_chat import eventually
from tests.bentos.processes import answering
from tests.components.events.examples import accepted, read

USER = "u" * 200  # fills a disk sooner
CHAT = {"model": "atelier-text", "messages": [{"role": "user", "content": "a red boat"}]}
LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def own(standin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway whose database is no other test's, and for whose lock it waits one second."""
    folder = tmp_path_factory.mktemp("event-store")
    events = f"sqlite:///{folder / 'events.db'}?timeout=1"
    with serve_gateway(folder, standin, f"{standin}/text", f"{standin}/image", events=events) as gateway:
        yield gateway


def ask(gateway: Running) -> httpx.Response:
    return gateway.post("/v1/chat/completions", json=CHAT | {"user": USER})


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"]["code"] == "events_unavailable"
    assert answer.headers["retry-after"]


def assert_on_record(gateway: Running, answers: list[httpx.Response]) -> None:
    """All that was answered is on record from its beginning to its end, and no end is without its beginning."""
    accepted = {row["request_id"] for row in read(gateway.events, "accepted")}
    finished = {row["request_id"]: row["outcome"] for row in read(gateway.events, "finished")}
    for answer in answers:
        if answer.status_code == 200:
            assert answer.json()["id"] in accepted
            assert finished[answer.json()["id"]] == "ok"
    assert finished.keys() <= accepted


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, mounted until the block ends; skips where this user may not mount."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a tmpfs: a really full disk cannot be had")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Take all the room that the file system has left."""
    with path.open("wb", buffering=0) as ballast:
        for size in (65_536, 512, 1):
            try:
                while ballast.write(os.urandom(size)) == size:
                    pass
            except OSError:
                continue


def test_28_a_full_disk(standin: str, tmp_path: Path) -> None:
    lines = (f"{standin}/text", f"{standin}/image")
    with small_disk(tmp_path / "disk", "2m") as disk:
        events = f"sqlite:///{disk / 'events.db'}"
        with serve_gateway(tmp_path / "gateway", standin, *lines, events=events) as gateway:
            answers = [ask(gateway)]
            assert answers[0].status_code == 200
            fill(disk / "ballast")
            # SQLite may still have room inside its files.
            while answers[-1].status_code == 200 and len(answers) < 2000:
                answers.append(ask(gateway))
            assert_refused(answers[-1])
            feedback = {"request_id": answers[0].json()["id"], "kind": "like", "value": 1, "user": USER}
            assert_refused(gateway.post("/v1/feedback", json=feedback))
            assert_on_record(gateway, answers)
            assert_refused(httpx.get(f"{gateway.url}/readyz", timeout=20))  # row 28: as every request is
            (disk / "ballast").unlink()
            assert eventually(lambda: httpx.get(f"{gateway.url}/readyz", timeout=20).status_code == 200)
            assert gateway.post("/v1/feedback", json=feedback).status_code == 201
            answers.append(ask(gateway))
            assert answers[-1].status_code == 200
            assert_on_record(gateway, answers)


def test_a_lock_that_another_process_holds(own: Running) -> None:
    assert ask(own).status_code == 200
    command = [sys.executable, "-c", LOCKER, own.events.removeprefix("sqlite:///").partition("?")[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as locker:
        assert locker.stdout and locker.stdout.readline() == "locked\n"
        refused = ask(own)  # after the second for which a commit waits for the lock
        locker.communicate("")
    assert_refused(refused)
    again = ask(own)
    assert again.status_code == 200
    assert_on_record(own, [refused, again])


def test_28_readiness_says_that_no_request_can_be_recorded(own: Running) -> None:
    """Where nobody may mount a disk: a limit to the size of files, which a write meets as it meets a full disk."""
    process = answering(own.url)
    before = resource.prlimit(process, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    assert eventually(lambda: httpx.get(f"{own.url}/readyz", timeout=20).status_code == 503)
    assert_refused(httpx.get(f"{own.url}/readyz", timeout=20))
    assert_refused(ask(own))
    resource.prlimit(process, resource.RLIMIT_FSIZE, before)
    assert eventually(lambda: httpx.get(f"{own.url}/readyz", timeout=20).status_code == 200)
    assert ask(own).status_code == 200


def test_28_a_gateway_that_was_killed_leaves_no_request_open(standin: str, tmp_path: Path) -> None:
    events, lines = f"sqlite:///{tmp_path / 'events.db'}", (f"{standin}/text", f"{standin}/image")
    with opened(events) as engine:
        commit(engine, [accepted("r1", at=1.0)])
    with serve_gateway(tmp_path / "gateway", standin, *lines, events=events):
        assert eventually(lambda: [row["outcome"] for row in read(events, "finished")] == ["lost"])
