"""Supervisor's event listener: restarts programs that hang, and ends what outlives its program.

Supervisor restarts what exits; whether a program still answers it asks nobody. Here any HTTP answer will do, as a
program that is busy or not ready is no better after a restart. What has no HTTP gives signs of life: Prefect's worker
its own heartbeat, housekeeping a file. Runs as `python -m flows.watch`, one process for all.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener
from xmlrpc.client import Fault

import psutil
from supervisor import childutils
from supervisor.states import ProcessStates

from components.config import load
from components.errors import AtelierError
from flows.environment import STATE, service_urls, ui_login
from flows.processes import end_orphans, end_with_parent
from flows.stack import DIRECT, LIVE_PATHS

POOL = "atelier"  # of the worker
HOUSEKEEPING = STATE / "housekeeping.beat"  # its sign of life
# How long a program that is well gives no sign at most: the worker gives one each 30 s, housekeeping one a minute,
# after its steps. Far more than that, as a worker that is ended takes its runs with it.
STILL = {"worker": 300.0, "housekeeping": 300.0}
# Looks come every five seconds, supervisor's TICK_5.
SILENT = 6  # looks in a row without an answer, after which a program that has answered before hangs
STARTING = 120  # the same for one that has never answered: loading a model takes its time
SECONDS = 4.0  # for an answer
ASLEEP = 60.0  # seconds between two looks


Process = tuple[str, int]  # a program and its process id


@dataclass
class Seen:
    """What is known of a program's process: whether it has ever answered, and for how many looks it has not."""

    pid: int
    answered: bool = False
    silent: int = 0

    @property
    def hangs(self) -> bool:
        return self.silent >= (SILENT if self.answered else STARTING)


@dataclass
class Watch:
    """Looks at the processes of running programs; a program that was started anew begins afresh."""

    seen: dict[str, Seen] = field(default_factory=dict)
    looked: float = 0.0  # epoch s

    def wake(self, now: float) -> None:
        """Begin afresh where the machine has slept, or its clock was set: then every sign of life looks old."""
        if abs(now - self.looked) > ASLEEP:
            self.seen = {}
        self.looked = now

    def look(self, signs: Mapping[Process, bool]) -> dict[str, int]:
        """Note which processes live; returns those that hang. Of whom nothing can be told now, all stays as it was."""
        for (name, pid), lives in signs.items():
            if name not in self.seen or self.seen[name].pid != pid:
                self.seen[name] = Seen(pid)
            seen = self.seen[name]
            if lives and not seen.answered:
                print(f"{name} (process {pid}) answers", file=sys.stderr, flush=True)
            seen.answered = seen.answered or lives
            seen.silent = 0 if lives else seen.silent + 1
        return {name: pid for name, pid in signs if self.seen[name].hangs}


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: it becomes an `HTTPError`, as a refusal does."""

    def redirect_request(self, *_: object) -> None:
        return None


_HERE = build_opener(ProxyHandler({}), _Stay)


def answers(url: str) -> bool:
    """Whether anything comes back over HTTP from there itself; never through a proxy."""
    try:
        _HERE.open(url, timeout=SECONDS).close()
    except HTTPError as refusal:
        refusal.close()
    except (OSError, HTTPException):
        return False
    return True


def last_housekeeping() -> float:
    """When housekeeping's last minute ended (epoch s); 0 where none has."""
    return HOUSEKEEPING.stat().st_mtime if HOUSEKEEPING.exists() else 0.0


def last_heartbeat(prefect: str) -> float | None:
    """When a worker last told the server at this address that it lives (epoch s), 0 where none has; None where the
    server does not say."""
    login = os.environ.get("PREFECT_API_AUTH_STRING") or ui_login()
    headers = {"authorization": f"Basic {b64encode(login.encode()).decode()}", "content-type": "application/json"}
    request = Request(f"{prefect}/api/work_pools/{POOL}/workers/filter", b"{}", headers)  # noqa: S310 - our own server
    try:
        with DIRECT.open(request, timeout=SECONDS) as answer:
            workers = json.load(answer)
    except (OSError, HTTPException, ValueError):
        return None
    beats = [seen["last_heartbeat_time"] for seen in workers if seen["last_heartbeat_time"]]
    return max((datetime.fromisoformat(beat).timestamp() for beat in beats), default=0.0)


def running(supervisor: Any) -> dict[str, int]:
    """The programs that supervisor says run, with their process ids; none once it is stopping."""
    try:
        processes = supervisor.getAllProcessInfo()
    except Fault:
        return {}
    return {info["name"]: info["pid"] for info in processes if info["state"] == ProcessStates.RUNNING}


def live_urls() -> dict[str, str]:
    """Where each program answers as params.yaml had it when it was first read; nowhere until that can be done."""
    try:
        return {name: url + LIVE_PATHS[name] for name, url in service_urls(load()).items()}
    except AtelierError:
        return {}


def watched(pids: Mapping[str, int], urls: Mapping[Process, str]) -> dict[Process, str]:
    """Where each running process answers: `urls` for those known already, as a change of params.yaml moves none."""
    processes = [process for process in pids.items() if process[0] in LIVE_PATHS]
    now = {} if all(process in urls for process in processes) else live_urls()
    return {process: url for process in processes if (url := urls.get(process) or now.get(process[0]))}


def beating(process: Process, prefect: str | None) -> bool | None:
    """Whether a process has given a sign of life not long ago; None where nobody can tell, as Prefect is away.

    What the process before it gave is none.
    """
    program, pid = process
    last = last_housekeeping() if program == "housekeeping" else last_heartbeat(prefect) if prefect else None
    try:
        began = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None
    now = time.time()
    # One of the future was given before the clock was set back.
    return None if last is None else max(began, now - STILL[program]) < last < now + ASLEEP


def look(pool: ThreadPoolExecutor, pids: Mapping[str, int], urls: Mapping[Process, str]) -> dict[Process, bool]:
    """Whether each running process lives, of those of which that can be told."""
    signs = dict(zip(urls, pool.map(answers, urls.values()), strict=True))
    prefect = next((url.removesuffix(LIVE_PATHS[name]) for (name, _), url in urls.items() if name == "prefect"), None)
    still = {process: beating(process, prefect) for process in pids.items() if process[0] in STILL}
    return signs | {process: lives for process, lives in still.items() if lives is not None}


def kill(program: str, pid: int) -> None:
    print(f"{program} (process {pid}) does not answer any more: killed, for supervisor to restart it", file=sys.stderr)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Follow supervisor's events until it ends."""
    end_with_parent()
    supervisor = childutils.getRPCInterface(os.environ).supervisor
    watch = Watch()
    urls: dict[Process, str] = {}
    with ThreadPoolExecutor(len(LIVE_PATHS)) as pool:
        while True:
            headers, _ = childutils.listener.wait()
            if headers["eventname"].startswith("TICK"):
                pids = running(supervisor)
                urls = watched(pids, urls)
                watch.wake(time.time())
                for name, pid in watch.look(look(pool, pids, urls)).items():
                    kill(name, pid)
            else:  # a program has ended
                end_orphans()
            childutils.listener.ok()


if __name__ == "__main__":
    main()
