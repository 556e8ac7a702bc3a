"""Debian's Prometheus and Alertmanager for the session: the machine's own, else unpacked once under `.atelier/`.

Unpacked rather than installed: apt would start both as services, and needs root.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".atelier"
HOME = STATE / "prometheus-packages"
PACKAGES = ("prometheus", "prometheus-alertmanager")
PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")


@pytest.fixture(scope="session")
def binaries() -> Path:
    """The folder that holds `PROGRAMS`; skips where the packages are not there and cannot be fetched."""
    folders = (Path("/usr/bin"), HOME / "usr" / "bin")
    for folder in folders:
        if all((folder / program).exists() for program in PROGRAMS):
            return folder
    try:
        unpack()
    except (OSError, subprocess.CalledProcessError) as error:
        words = (getattr(error, "stderr", "") or str(error)).strip()[-300:]
        pytest.skip(f"the Debian packages {' and '.join(PACKAGES)} are not here and cannot be fetched: {words}")
    return folders[1]


def unpack() -> None:
    """Fetch both packages and put their files under `HOME`, all of them or none."""
    STATE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STATE) as folder:
        download = ["apt-get", "download", *PACKAGES]
        if subprocess.run(download, cwd=folder, capture_output=True, check=False).returncode != 0:
            subprocess.run(["apt-get", "update"], capture_output=True, text=True, check=True)
            subprocess.run(download, cwd=folder, capture_output=True, text=True, check=True)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), f"{folder}/files"], check=True)
        (Path(folder) / "files").rename(HOME)
