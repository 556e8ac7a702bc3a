"""A real gateway follows the experiments in the database while requests run; none fails, users keep their places."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from components.config import Experiment, Guardrails, Variant
from components.events import window
from components.events.database import opened
from components.events.ledger import Note
from components.events.schema import hash_user
from components.experiments import store
from components.experiments.versions import newest
from monitoring.outcomes import exposures
from tests.bentos.gateway.conftest import KEY, Running, serve_gateway
from tests.bentos.gateway.test_chat import eventually
from tests.components.events.examples import read
from tests.components.experiments.examples import COLOURS, experiment, in_force

CLIENTS, USERS = 3, 240


def named(name: str, share: float) -> Experiment:
    return experiment(salt=name).model_copy(update={"name": name, "share": share})


def rows(gateway: Running) -> list[dict[str, Any]]:
    return read(gateway.events, "accepted")


@pytest.fixture
def gateway(standin: str, tmp_path: Path) -> Iterator[Running]:
    urls = f"{standin}/text", f"{standin}/image"
    declared: dict[str, Any] = {"name": "colours", "salt": "colours", "share": 0.5}
    declared["attribution_hours"] = COLOURS.attribution_hours
    with serve_gateway(tmp_path, standin, *urls, experiment=declared, max_concurrency=8) as served:
        yield served


def ask(client: httpx.Client, user: int) -> int:
    message = {"role": "user", "content": "a red boat"}
    body = {"model": "atelier-text", "messages": [message], "user": f"user-{user}"}
    return client.post("/v1/chat/completions", json=body).status_code


def everybody(gateway: Running) -> set[int]:
    """Every user asks once; the statuses of the answers."""

    def some(first: int) -> set[int]:
        with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
            return {ask(client, user) for user in range(first, USERS, CLIENTS)}

    with ThreadPoolExecutor(CLIENTS) as pool:
        return set().union(*pool.map(some, range(CLIENTS)))


@contextmanager
def asking(gateway: Running) -> Iterator[list[int]]:
    """Users ask all the while; the statuses of all answers so far."""
    statuses: list[int] = []
    ended = threading.Event()

    def visit(first: int) -> None:
        with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
            for user in itertools.cycle(range(first, USERS, CLIENTS)):
                if ended.is_set():
                    return
                statuses.append(ask(client, user))

    with ThreadPoolExecutor(CLIENTS) as pool:
        visits = [pool.submit(visit, first) for first in range(CLIENTS)]
        try:
            yield statuses
        finally:
            ended.set()
            for done in visits:
                done.result()


def test_weights_change_while_requests_run_and_none_fails(gateway: Running, capsys: pytest.CaptureFixture[str]) -> None:
    def given(*propensities: float) -> dict[str, str]:
        """The variants of users by requests with these propensities."""
        return {row["user_key"]: row["variant"] for row in rows(gateway) if row["propensity"] in propensities}

    with asking(gateway) as statuses:
        assert eventually(lambda: len(statuses) > USERS)
        began = time.time()
        with opened(gateway.events) as engine:
            weights = {"control": 0.1, "treatment": 0.9}
            store.reweigh(engine, newest(engine), "colours", weights, Note("ada", "it is liked"))
        assert eventually(lambda: bool(given(0.1, 0.9)))
        seen = len(statuses)
        assert eventually(lambda: len(statuses) > seen + 2 * USERS)
    assert set(statuses) == {200}
    first = min(row["time"] for row in rows(gateway) if row["propensity"] in (0.1, 0.9))
    with capsys.disabled():
        print(f"\n{len(statuses)} requests, none failed; the new weights held after {first - began:.2f} s")
    old, new = given(0.5), given(0.1, 0.9)
    assert list(new.values()).count("treatment") / len(new) == pytest.approx(0.9, abs=0.1)
    assert {(old[u], new[u]) for u in old.keys() & new.keys() if old[u] != new[u]} == {("control", "treatment")}
    late = [row for row in rows(gateway) if row["time"] > first + 1 and row["experiment"]]
    assert {(row["variant"], row["propensity"]) for row in late} == {("control", 0.1), ("treatment", 0.9)}


def test_experiments_begin_and_end_without_a_restart_and_nobody_is_in_two(gateway: Running) -> None:
    def running() -> Counter[str]:
        """How many of all users, who ask once, are in which experiment."""
        before = len(rows(gateway))
        assert everybody(gateway) == {200}
        return Counter(row["experiment"] for row in rows(gateway)[before:])

    assert set(running()) == {"colours", ""}
    alone = {row["user_key"] for row in rows(gateway) if row["experiment"]}
    in_force(gateway.events, named("shapes", 0.3), named("sizes", 0.1))
    assert eventually(lambda: set(running()) == {"colours", "shapes", "sizes", ""})
    counts = running()
    assert [counts[name] / USERS for name in ("colours", "shapes", "sizes", "")] == [
        pytest.approx(share, abs=0.1) for share in (0.5, 0.3, 0.1, 0.1)
    ]
    inside: dict[str, set[str]] = defaultdict(set)
    for row in rows(gateway):
        inside[row["user_key"]] |= {row["experiment"]} - {""}
    assert max(map(len, inside.values())) == 1
    assert {user for user, names in inside.items() if names == {"colours"}} == alone  # nobody was moved
    with opened(gateway.events) as engine:
        store.end(engine, "colours", Note("ada", "it is decided"))
    assert eventually(lambda: set(running()) == {"shapes", "sizes", ""})


def test_experiments_that_cannot_be_read_stay_as_they_are(gateway: Running) -> None:
    with opened(gateway.events) as engine, engine.begin() as connection:
        connection.exec_driver_sql('UPDATE experiments SET definition = \'{"written": "by newer code"}\'')
    log = Path(gateway.events.removeprefix("sqlite:///")).parent / "server.log"
    told = "experiments stay as they are: version 1 of experiment colours was written by other code"
    assert eventually(lambda: told in log.read_text())
    assert everybody(gateway) == {200}
    assert {row["experiment"] for row in rows(gateway)} == {"", "colours"}


def test_a_segment_s_adapter_reaches_its_users_and_the_record(gateway: Running) -> None:
    adapter = "a" * 64
    variants = {"control": Variant(weight=0.0), "treatment": Variant(weight=1.0, adapter=adapter)}
    kept = experiment(salt="p").model_copy(update={"name": "p", "segment": {"plan": "paid"}, "variants": variants})
    with opened(gateway.events) as engine:
        store.apply(engine, [experiment(salt="colours").model_copy(update={"share": 0.5}), kept], Note("ada", "it won"))

    def written(plan: str, **more: object) -> str:
        """The adapter on record for an answer to a user of a plan."""
        message = {"role": "user", "content": f"a boat for {plan}"}
        body = {"model": "atelier-text", "messages": [message], "user": "ada", "metadata": {"plan": plan}} | more
        identifier = gateway.post("/v1/chat/completions", json=body).headers["x-request-id"]
        (row,) = (row for row in read(gateway.events, "finished") if row["request_id"] == identifier)
        return str(row["adapter"])

    assert eventually(lambda: written("paid") == adapter)
    assert written("free") == ""
    assert written("paid", stream=True) == adapter
    assert written("paid", temperature=0.2) == adapter  # it is no parameter that the experiment compares


@pytest.mark.parametrize("stream", [False, True])
def test_28_what_clients_bound_to_nothing_breaks_no_guardrail(gateway: Running, standin: str, stream: bool) -> None:
    limits = Guardrails(slo_s=60.0, slow=0.05, failed=0.02, refused=0.02)
    watched = experiment(salt="colours").model_copy(update={"guardrails": limits})
    httpx.post(f"{standin}/mode", content="empty", timeout=5).raise_for_status()
    try:
        for name, bound in [("1", {"max_tokens": 1}), ("7", {"max_tokens": 7}), ("all", {})]:
            for user in range(8):  # half of the users are in the experiment
                message = {"role": "user", "content": "a boat"}
                body = {"model": "atelier-text", "messages": [message], "user": f"{name}-{user}", "stream": stream}
                gateway.post("/v1/chat/completions", json=body | bound).raise_for_status()
    finally:
        httpx.post(f"{standin}/mode", content="ok", timeout=5).raise_for_status()
    blank = dict[str, set[float]]()
    users = {hash_user(f"user:all-{user}", "a secret of tests") for user in range(8)}
    for seen in exposures(watched, window.experiment_requests(gateway.events, "colours", "text", time.time())):
        blank.setdefault("unbounded" if seen.user_key in users else "bounded", set()).add(seen.values["refused"])
    assert blank == {"unbounded": {1.0}, "bounded": {0.0}}


def test_33_names_that_no_header_can_carry_fail_no_request(gateway: Running) -> None:
    """As older versions let them in; `params.yaml` refuses them by now."""
    variants = {name: Variant(weight=0.5) for name in ("图", "a\nb")}
    in_force(gateway.events, named("图", 0.5).model_copy(update={"variants": variants}))
    assert eventually(lambda: everybody(gateway) == {200} and "图" in {row["experiment"] for row in rows(gateway)})
    chosen = {row["user_key"]: row["variant"] for row in rows(gateway) if row["experiment"] == "图"}
    assert set(chosen.values()) == set(variants)
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
        seen = set()
        for user in range(20):
            message = {"role": "user", "content": "a red boat"}
            body = {"model": "atelier-text", "messages": [message], "user": f"user-{user}"}
            seen.add(unquote(client.post("/v1/chat/completions", json=body).headers.get("x-variant", "")))
    assert seen & set(variants)
