"""The stack on one machine: the processes of `infra/supervisord.conf`, started, restarted, awaited and stopped, and
which deployment each of a line's two programs (its slots) serves.

Supervisor keeps them alive and holds their logs; this file only asks it, and waits until each answers over HTTP.
`.atelier/deployed/<program>.json` says what a slot serves. Which of them gets users is not decided here, but by the
releases in the database, which the gateway reads.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psutil
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from components.artifact import write_text
from components.config import Line, Params
from components.events.schema import Deployment
from components.lines import LINES, PROGRAMS
from components.stage import StageError
from flows.environment import (
    PORTS,
    PREFECT_AUTH,
    ROOT,
    SETTINGS,
    STATE,
    listening_host,
    ports,
    service_urls,
    ui_login,
)
from flows.processes import end_orphans
from flows.program_environment import environment_of_all

CONFIGURATION = ROOT / "infra" / "supervisord.conf"
LOGS = STATE / "logs"
READY_PATHS = {
    **dict.fromkeys(("gateway", *PROGRAMS), "/readyz"),
    "mlflow": "/health",
    "prefect": "/api/health",
    "prometheus": "/-/ready",
    "alertmanager": "/-/ready",
    "label-studio": "/health",
}
# Where a program answers as long as it lives, ready or not.
LIVE_PATHS = READY_PATHS | dict.fromkeys(("gateway", *PROGRAMS), "/livez")
READY_SECONDS, READ_BYTES = 180.0, 20e6  # until a program answers; bytes a second of its model, read and compiled first
DIRECT = build_opener(ProxyHandler({}))  # the stack is on this machine, whatever address it listens on


def control(*arguments: str) -> str:
    """Ask supervisor; returns its answer, raises `StageError` with it where the request failed."""
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(CONFIGURATION), *arguments]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # `status` ends with 3 when any program is stopped, which is an answer and no error.
    if answer.returncode != 0 and arguments[0] != "status":
        raise StageError(f"supervisor: {' '.join(arguments)}: {(answer.stdout + answer.stderr).strip()}")
    return answer.stdout


def supervisor_pid() -> int | None:
    """The process id of the running supervisor, or None."""
    try:
        pid = int((STATE / "supervisord.pid").read_text())
        # By its command: the number may be another process's by now, or a zombie's that nobody waits for.
        return pid if str(CONFIGURATION) in psutil.Process(pid).cmdline() else None
    except (OSError, ValueError, psutil.Error):
        return None


def running() -> set[str]:
    """Programs that supervisor has started, without the one that watches them."""
    if supervisor_pid() is None:
        return set()
    rows = (line.split() for line in control("status").splitlines())
    return {row[0] for row in rows if len(row) > 1 and row[1] in {"RUNNING", "STARTING"}} - {"watch"}


def use_server(params: Params) -> None:
    """Have flows report to the stack's Prefect server."""
    os.environ["PREFECT_API_URL"] = service_urls(params)["prefect"] + "/api"
    os.environ.update(dict.fromkeys(PREFECT_AUTH, ui_login()))


def use_server_if_running(params: Params) -> None:
    """Without the stack, Prefect starts a temporary server of its own for a flow."""
    if "prefect" in running():
        use_server(params)


def require_free_ports(params: Params, programs: list[str]) -> None:
    """Refuse to start what could not listen; raises `StageError` naming the port and its parameter."""
    require_different_ports(params)
    for program in programs:
        port = ports(params).get(program)
        if port is None:
            continue
        host = listening_host(program, params)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise StageError(
                    f"port {port} for {program} is in use ({error}); stop what uses it, "
                    f"or change {PORTS[program]} in params.yaml"
                ) from error


def require_different_ports(params: Params) -> None:
    """Raise `StageError` where two programs have the same port, naming both parameters."""
    programs: dict[int, str] = {}
    for program, port in ports(params).items():
        if (other := programs.setdefault(port, program)) != program:
            raise StageError(f"{PORTS[other]} and {PORTS[program]} are both {port} in params.yaml")


def start(params: Params, programs: list[str]) -> None:
    """Start what does not run yet and wait until it answers; what runs already is left alone."""
    missing = [p for p in programs if p not in running()]
    if supervisor_pid() is None:
        end_orphans()  # of a supervisor that was killed
    require_free_ports(params, missing)
    if supervisor_pid() is None:
        LOGS.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(CONFIGURATION)]
        subprocess.run(command, cwd=ROOT, env=environment_of_all(), check=True)
        await_supervisor()
    for program in missing:
        control("start", program)
    for program in programs:
        await_ready(params, program)


def restart(params: Params, program: str) -> None:
    """Replace a running program by a new process of it, and wait until that answers."""
    if program in running():
        control("stop", program)
    start(params, [program])


@retry(stop=stop_after_delay(20), wait=wait_fixed(0.2), retry=retry_if_exception_type(StageError), reraise=True)
def await_supervisor() -> None:
    control("pid")


def await_ready(params: Params, program: str) -> None:
    """Wait until the program answers; raises `StageError` with the end of its log when it does not in time."""
    if program not in READY_PATHS:
        return
    url = service_urls(params)[program] + READY_PATHS[program]

    @retry(
        stop=stop_after_delay(patience(program)),
        wait=wait_fixed(0.5),
        retry=retry_if_exception_type(OSError),
        reraise=True,
    )
    def answer() -> None:
        if program not in running():
            raise StageError(f"{program} stopped while starting; its log ends:\n{log_tail(program)}")
        DIRECT.open(url, timeout=5).close()

    try:
        answer()
    except (URLError, OSError) as error:
        raise StageError(f"{program} does not answer at {url}: {error}; its log ends:\n{log_tail(program)}") from error


def patience(program: str) -> float:
    """Seconds within which a program that is well answers after its start: the longer, the larger its model is."""
    record = deployed(program) if program in PROGRAMS else None
    files: Iterable[Path] = bento_folder(record.bento).rglob("*") if record else ()
    return READY_SECONDS + sum(file.stat().st_size for file in files if file.is_file()) / READ_BYTES


def answers(program: str, params: Params) -> bool:
    """Whether a program says that it is ready, within two seconds."""
    try:
        DIRECT.open(service_urls(params)[program] + READY_PATHS[program], timeout=2).close()
    except OSError:
        return False
    return True


def log_tail(program: str, lines: int = 12) -> str:
    """The last lines a program wrote."""
    path: Path = LOGS / f"{program}.log"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"


def stop() -> bool:
    """Stop everything that supervisor started; False where nothing ran."""
    pid = supervisor_pid()
    if pid is None:
        return False
    control("shutdown")

    @retry(stop=stop_after_delay(60), wait=wait_fixed(0.2), retry=retry_if_exception_type(StageError), reraise=True)
    def gone() -> None:
        if supervisor_pid() == pid:
            raise StageError(f"supervisor (process {pid}) has not stopped; see {LOGS / 'supervisord.log'}")

    gone()
    end_orphans()
    return True


def deployed(program: str) -> Deployment | None:
    """The deployment a program serves, or None where nothing was deployed into it."""
    record = STATE / "deployed" / f"{program}.json"
    return Deployment.model_validate_json(record.read_bytes()) if record.exists() else None


def require_deployed(program: str) -> Deployment:
    record = deployed(program)
    if record is None:
        raise StageError(f"no {program} model is deployed yet; run `atelier release start` after `dvc repro`")
    return record


def place(program: str, record: Deployment) -> None:
    """Have a program serve a deployment from its next start on."""
    write_text(STATE / "deployed" / f"{program}.json", json.dumps(record.model_dump(), indent=1))


def slot_of(line: Line, deployment: str | None) -> str | None:
    """The program that serves a deployment, or None."""
    return next((s for s in LINES[line].programs if (record := deployed(s)) and record.deployment == deployment), None)


def vacate(line: Line, deployment: str) -> None:
    """Stop what serves a candidate that was sent back, and forget that it did; its users are the champion's already."""
    slot = slot_of(line, deployment)
    if slot is None:
        return
    (STATE / "deployed" / f"{slot}.json").unlink()
    if slot in running():
        control("stop", slot)


def slot_beside(line: Line, deployment: str | None) -> str:
    """The first program of a line that does not serve `deployment`: what may be replaced while that goes on."""
    return next(slot for slot in LINES[line].programs if slot != slot_of(line, deployment))


def served(line: Line, champion: str | None) -> Deployment | None:
    """What users of this machine get: the champion where a program serves it, else what the first occupied one does."""
    records = [record for slot in LINES[line].programs if (record := deployed(slot))]
    return next((record for record in records if record.deployment == champion), records[0] if records else None)


def startable(champions: Mapping[Line, str | None]) -> tuple[list[str], dict[str, str]]:
    """The programs that can serve, and of the others the tag of the Bento that the store has lost.

    Raises `StageError` where a line's users would be left without an answer.
    """
    tags = {slot: require_deployed(slot).bento for slot in occupied()}
    lost = {slot: tag for slot, tag in tags.items() if not bento_folder(tag).is_dir()}
    for line, champion in champions.items():
        record = served(line, champion)
        if record and slot_of(line, record.deployment) in lost:
            raise StageError(f"the Bento store has lost {record.bento}, which serves {line}; `atelier release start`")
    return [slot for slot in tags if slot not in lost], lost


def bento_folder(tag: str) -> Path:
    """Where the store has a Bento."""
    return Path(os.environ.get("BENTOML_HOME", SETTINGS["BENTOML_HOME"])) / "bentos" / tag.replace(":", "/")


def occupied() -> list[str]:
    """The programs that have something to serve."""
    return [slot for slot in PROGRAMS if deployed(slot)]
