"""A throwaway PostgreSQL server from this machine's own binaries, for benches and tests: nothing in it outlives it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEBIAN = "usr/lib/postgresql/*/bin"


def binaries() -> Path | None:
    """The folder of `initdb` and `pg_ctl`, or None where PostgreSQL's server is not installed."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/").glob(DEBIAN))
    return folders[-1] if folders and (folders[-1] / "pg_ctl").exists() else None


@contextmanager
def postgresql(binaries: Path) -> Iterator[str]:
    """URL of the maintenance database of a fresh server on a free loopback port, until the block ends."""
    user = _ordinary_user()
    # Not under the caller's own temporary folder, which other users may not be able to enter.
    folder = Path(tempfile.mkdtemp(prefix="atelier-pg-", dir="/tmp"))
    if user:
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"

    def run(*command: str) -> None:
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

    data, control = str(folder / "data"), str(binaries / "pg_ctl")
    try:
        run(str(binaries / "initdb"), "-D", data, "-U", "atelier", "-A", "trust", "-E", "UTF8", "--no-sync")
        run(control, "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://atelier@127.0.0.1:{port}/postgres"
        finally:
            run(control, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ordinary_user() -> str | None:
    """PostgreSQL refuses to run as root: the user to become, or None where we are ordinary already."""
    if os.geteuid() != 0:
        return None
    return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
