"""`atelier serve <program>`: becomes one program of the stack, with its port, home and deployment from the parameters.

Supervisor runs these. Each replaces this process (`exec`), so that signals and exit codes are the program's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

from sqlalchemy import make_url

from bentos.process import bind, command
from components import lines
from components.api_keys import KEYS, KEYS_FILE
from components.config import Params
from components.endpoint_keys import KEYS_FOLDER
from components.loopback import LOOPBACK
from components.paths import ADAPTERS
from components.stage import StageError
from flows import labelling_server, stack
from flows.alerting import alertmanager, obstacle, prometheus
from flows.environment import (
    ACCEPTED_KEYS,
    ENDPOINT_KEYS,
    ROOT,
    STATE,
    accept_keys,
    ports,
    provide_secrets,
    service_urls,
    ui_login,
)
from flows.mlflow_server import LOGIN
from flows.processes import end_orphans, end_with_parent, mark
from flows.program_environment import environment_of
from flows.stack import await_ready, require_deployed
from flows.watch import POOL


def prefect_server(params: Params) -> list[str]:
    """Prefect's server, whose API answers its own pages alone; whoever asks needs the password (`use_server`)."""
    names = (LOOPBACK, "localhost")
    pages = ",".join(f"http://{name}:{params.stack.prefect_port}" for name in names)
    os.environ.setdefault("PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS", pages)
    address = ["--host", LOOPBACK, "--port", str(params.stack.prefect_port)]
    return [sys.executable, "-m", "flows.prefect_server", *address]


def mlflow_server(params: Params) -> list[str]:
    """MLflow's server behind a password, started as `mlflow server` would start it, without that as its parent."""
    registry = params.registry
    stores = {
        "_MLFLOW_SERVER_FILE_STORE": registry.tracking_uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": registry.artifact_root,
    }
    os.environ.update(stores | {LOGIN: ui_login()})
    address = ["--host", LOOPBACK, "--port", str(params.stack.mlflow_port)]
    return [sys.executable, "-m", "uvicorn", "--factory", "flows.mlflow_server:app", *address]


def worker(params: Params) -> list[str]:
    """A Prefect worker, after the scheduled deployments of `prefect.yaml` were applied to its server.

    One run at a time, as two would write the same artifacts; beside it decisions on adapters, and what people have
    labelled. Where there is an Alertmanager to tell somebody, runs that fail are told of.
    """
    await_ready(params, "prefect")
    subprocess.run(["prefect", "work-pool", "create", POOL, "--type", "process", "--overwrite"], cwd=ROOT, check=True)
    subprocess.run(["prefect", "--no-prompt", "deploy", "--all"], cwd=ROOT, check=True)
    # Planned by earlier versions; they stay in their server's database, and to delete one fails where there is none.
    for planned in ("canary/every-minute", "release/nightly"):
        subprocess.run(["prefect", "--no-prompt", "deployment", "delete", planned], cwd=ROOT, check=False)
    one_at_a_time = ["prefect", "work-queue", "set-concurrency-limit", "default", "1", "--pool", POOL]
    subprocess.run(one_at_a_time, cwd=ROOT, check=True)
    if obstacle("alertmanager") is None:
        from flows.automations import tell_of_failed_flows  # imports Prefect, for which the address is set by now

        tell_of_failed_flows(service_urls(params)["alertmanager"])
    return ["prefect", "worker", "start", "--pool", POOL, "--limit", "3"]


def housekeeping(params: Params) -> list[str]:
    """What is due each minute; it takes its steps whether or not Prefect answers."""
    return [sys.executable, "-m", "flows.housekeeping"]


def model(program: str, params: Params) -> list[str]:
    """The Bento of the program's deployment, with the artifact it was released from."""
    record = require_deployed(program)
    os.environ["ATELIER_DEPLOYMENT"] = record.deployment
    # A Bento runs in its own folder of the store; adapters are made after it was built.
    os.environ.setdefault("ATELIER_ADAPTERS", str(ROOT / ADAPTERS))
    os.environ.pop(KEYS_FOLDER, None)
    if record.bento.startswith("atelier-endpoint:"):
        os.environ[KEYS_FOLDER] = str(STATE / ENDPOINT_KEYS)
    return command(record.bento, bind(LOOPBACK, ports(params)[program]))


def gateway(params: Params) -> list[str]:
    """The gateway's Bento; it is told where model Bentos may answer, which say themselves what they serve."""
    record = STATE / "deployed" / "gateway.txt"
    if not record.exists():
        raise StageError("no gateway is deployed yet; run `atelier release start` after `dvc repro`")
    urls = service_urls(params)
    for name, line in lines.LINES.items():
        os.environ[f"ATELIER_{name.upper()}_URL"] = ",".join(urls[program] for program in line.programs)
    if not (STATE / ACCEPTED_KEYS).exists() and os.environ.get(KEYS):
        accept_keys()  # a release on a machine where `atelier up` never ran; the gateway does not see the variable
    os.environ[KEYS_FILE] = str(STATE / ACCEPTED_KEYS)
    # A Bento runs in its own folder of the store, where the parameters' relative path would mean another file.
    os.environ.setdefault("ATELIER_EVENTS_URL", absolute(params.events.url))
    return command(record.read_text().strip(), bind(params.serving.host, params.serving.gateway_port))


def absolute(url: str) -> str:
    """A database URL that means the same in every working directory: SQLite's relative path is the project's."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return url
    return parsed.set(database=str(ROOT / parsed.database)).render_as_string(hide_password=False)


PROGRAMS: dict[str, Callable[[Params], list[str]]] = {
    "prefect": prefect_server,
    "mlflow": mlflow_server,
    "worker": worker,
    "housekeeping": housekeeping,
    **{program: partial(model, program) for program in lines.PROGRAMS},
    "gateway": gateway,
    "prometheus": prometheus,
    "alertmanager": alertmanager,
    "label-studio": labelling_server.server,
}


def serve(program: str, params: Params) -> None:
    """Become `program`; raises `StageError` for an unknown one and does not return otherwise."""
    if program not in PROGRAMS:
        raise StageError(f"no program {program!r}; there are {', '.join(PROGRAMS)}")
    provide_secrets()
    stack.use_server(params)
    end_orphans()  # what the program's last process has left may hold its port
    become = PROGRAMS[program](params)
    os.chdir(ROOT)
    mark(program)
    end_with_parent()
    os.execvpe(become[0], become, environment_of(program))  # noqa: S606 - a fixed command, no shell
