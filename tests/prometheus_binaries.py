"""Debian's Prometheus and Alertmanager for the session, installed by apt where they are not.

Installed rather than unpacked: Debian's Alertmanager reads a template below /usr/share. No service is started.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

PACKAGES = ("prometheus", "prometheus-alertmanager")
FOLDER = Path("/usr/bin")
PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
POLICY = Path("/usr/sbin/policy-rc.d")


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds `PROGRAMS`; skips where the packages are not there and apt cannot install them."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "apt.lock"):  # of two runs beside each other, one installs
        if not all((FOLDER / program).exists() for program in PROGRAMS):
            try:
                install()
            except (OSError, subprocess.CalledProcessError) as error:
                words = (getattr(error, "stderr", "") or str(error)).strip()[-300:]
                pytest.skip(f"the Debian packages {' and '.join(PACKAGES)} are not here, nor can be installed: {words}")
    return FOLDER


def install() -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    wanted = ["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", *PACKAGES]
    with no_service_starts():
        for arguments in (["update"], wanted):
            subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True, check=True)


@contextmanager
def no_service_starts() -> Iterator[None]:
    """Debian's own switch: installation scripts start nothing while this file says 101. A file that is there stays."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
