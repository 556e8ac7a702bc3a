from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from components.config import Package
from components.data.fetch import fetch, receipt, unpack
from components.stage import StageError

NAME = "atelier-test-asset"
FILES = {
    "atelier_test_asset/a.svg": b"<svg/>",
    "atelier_test_asset/a.svg.gz": b"a copy",
    "atelier_test_asset/only.gz": b"no copy",
    "atelier_test_asset-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: atelier-test-asset\nVersion: 1.0\n",
    "atelier_test_asset-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
    "atelier_test_asset-1.0.dist-info/RECORD": b"",
}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the package registry, holding one wheel; the real client is used, offline."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "atelier_test_asset-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in FILES.items():
            wheel.writestr(name, data)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def package(index: Path, version: str = "1.0") -> Package:
    wheel = next(index.glob("*.whl"))
    return Package(version=version, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())


def test_a_package_is_fetched_once_and_unpacked_without_compressed_copies(index: Path, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    pinned = package(index)
    assert fetch(NAME, pinned, assets)
    inside = assets / NAME / "atelier_test_asset"
    assert sorted(path.name for path in inside.iterdir()) == ["a.svg", "only.gz"]
    assert receipt(assets / NAME) == {"version": "1.0", "sha256": pinned.sha256}
    next(index.glob("*.whl")).unlink()
    assert not fetch(NAME, pinned, assets)
    assert [path.name for path in assets.iterdir()] == [NAME]


def test_a_folder_without_receipt_is_fetched_again(index: Path, tmp_path: Path) -> None:
    (tmp_path / "assets" / NAME).mkdir(parents=True)
    assert fetch(NAME, package(index), tmp_path / "assets")


def test_another_digest_is_refused_with_both_and_leaves_nothing(index: Path, tmp_path: Path) -> None:
    real = package(index).sha256
    with pytest.raises(StageError) as refusal:
        fetch(NAME, Package(version="1.0", sha256="0" * 64), tmp_path / "assets")
    assert NAME in str(refusal.value) and real in str(refusal.value) and "0" * 64 in str(refusal.value)
    assert list((tmp_path / "assets").iterdir()) == []


def test_a_broken_download_is_refused_by_name_and_keeps_what_was_there(index: Path, tmp_path: Path) -> None:
    pinned = package(index)
    fetch(NAME, pinned, tmp_path / "assets")
    wheel = next(index.glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:200])
    with pytest.raises(StageError, match=NAME):
        fetch(NAME, Package(version="1.0", sha256="1" * 64), tmp_path / "assets")
    assert receipt(tmp_path / "assets" / NAME) == pinned.model_dump()


def test_a_version_nobody_has_is_refused_in_the_clients_words(index: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"atelier-test-asset 9\.9: the package client could not .*9\.9"):
        fetch(NAME, package(index, "9.9"), tmp_path / "assets")


@pytest.mark.parametrize(
    "name", ["../escape.txt", "/etc/escape.txt", "a/../../escape.txt", "a\\..\\escape.txt", "C:/x"]
)
def test_a_member_that_leaves_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    wheel = tmp_path / "evil.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, "escaped")
    (tmp_path / "in" / "folder").mkdir(parents=True)
    with pytest.raises(StageError, match="points outside"):
        unpack(wheel, tmp_path / "in" / "folder")
    assert not list(tmp_path.rglob("escape*"))


def test_a_link_in_a_wheel_is_refused(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("link")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "evil.whl", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(StageError, match="'link'"):
        unpack(tmp_path / "evil.whl", tmp_path / "out")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.whl").write_bytes(b"PK not really")
    with pytest.raises(StageError, match="damaged archive"):
        unpack(tmp_path / "broken.whl", tmp_path / "out")
