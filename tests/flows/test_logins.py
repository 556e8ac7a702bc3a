"""Prefect and MLflow on this machine answer who has the password: no web page, and no other user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import httpx
import pytest

from components.config import load
from flows import environment, serve, stack
from tests.bentos.processes import free_port, running
from tests.mlflow_store import Store

ELSEWHERE = "http://shop.example"


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory, mlflow_store: Store) -> Iterator[dict[str, str]]:
    """Both servers as the stack starts them, with ports and state of their own."""
    folder, params = tmp_path_factory.mktemp("logins"), load()
    ports = {"prefect_port": free_port(), "mlflow_port": free_port()}
    changes = {"stack": params.stack.model_copy(update=ports), "registry": mlflow_store(folder)}
    params = params.model_copy(update=changes)
    told = environment.service_urls(params)
    with mock.patch.dict(os.environ, {"PREFECT_HOME": str(folder / "home")}):
        stack.use_server(params)
        prefect, mlflow = serve.prefect_server(params), serve.mlflow_server(params)
        for name in ("prefect", "mlflow"):
            (folder / name).mkdir()
        with (
            running(mlflow, folder / "mlflow", told["mlflow"] + "/health", {}),
            running(prefect, folder / "prefect", told["prefect"] + "/api/health", {}),
        ):
            yield told


def ask(method: str, url: str, **request: Any) -> httpx.Response:
    return httpx.request(method, url, timeout=60, **request)


def login() -> httpx.BasicAuth:
    return httpx.BasicAuth(*environment.ui_login().split(":"))


@pytest.mark.parametrize("origin", [None, ELSEWHERE])
@pytest.mark.parametrize("auth", [None, httpx.BasicAuth("atelier", "guess")])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/flows/", {"name": "theirs"}),
        ("/work_pools/filter", {}),
        ("/work_pools/", {"name": "theirs", "type": "process"}),
        ("/flow_runs/", {"flow_id": "0" * 32, "job_variables": {"command": "id"}}),
        ("/deployments/filter", {}),
    ],
)
def test_30_nobody_makes_a_flow_run_without_the_password(
    urls: dict[str, str], path: str, body: dict[str, object], auth: httpx.BasicAuth | None, origin: str | None
) -> None:
    headers = {"origin": origin} if origin else {}
    answer = ask("POST", f"{urls['prefect']}/api{path}", json=body, headers=headers, auth=auth)
    assert answer.status_code == 401
    assert "access-control-allow-origin" not in answer.headers


def test_30_prefect_tells_browsers_that_its_own_pages_alone_may_ask(urls: dict[str, str]) -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    for origin, allowed in ((ELSEWHERE, None), ("null", None), (urls["prefect"], urls["prefect"])):
        answer = ask("OPTIONS", f"{urls['prefect']}/api/flows/", headers=preflight | {"origin": origin})
        assert answer.headers.get("access-control-allow-origin") == allowed


def test_30_with_the_password_prefect_answers(urls: dict[str, str]) -> None:
    assert ask("POST", f"{urls['prefect']}/api/flows/filter", json={}, auth=login()).json() == []
    assert ask("GET", f"{urls['prefect']}/", follow_redirects=True).status_code == 200
    told = ask("GET", f"{urls['prefect']}/ui-settings").json()
    assert (told["auth"], told["api_url"]) == ("BASIC", f"{urls['prefect']}/api")  # its page asks people for it


@pytest.mark.parametrize("path", ["/", "/api/2.0/mlflow/experiments/search", "/ajax-api/2.0/mlflow/experiments/create"])
def test_30_mlflow_answers_nobody_without_the_password_and_no_other_page(urls: dict[str, str], path: str) -> None:
    url, body = urls["mlflow"] + path, {"max_results": 1, "name": "theirs"}
    for method in ("GET", "POST"):
        assert ask(method, url, json=body).status_code == 401
        assert ask(method, url, json=body, auth=("atelier", "guess")).status_code == 401
        for origin in (ELSEWHERE, "null", "http://127.0.0.1:1"):
            answer = ask(method, url, json=body, auth=login(), headers={"origin": origin})
            assert answer.status_code == 403


def test_30_with_the_password_mlflow_answers_and_its_page_works(urls: dict[str, str]) -> None:
    assert "text/html" in ask("GET", urls["mlflow"], auth=login()).headers["content-type"]
    url = urls["mlflow"] + "/ajax-api/2.0/mlflow/experiments/search"
    found = ask("POST", url, json={"max_results": 9}, auth=login(), headers={"origin": urls["mlflow"]}).json()
    assert [one["name"] for one in found["experiments"]] == ["Default"]
