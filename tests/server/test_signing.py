from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server import EmbeddedTriton
from server.manifest import ManifestError
from server.signing import MANIFEST, SIGNATURE, check, sign

from . import tiny
from .released import new_key

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return new_key(tmp_path_factory.mktemp("keys") / "ours")


@pytest.fixture
def repository(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    folder = tiny.write_repository(tmp_path / "models")
    assert sign(folder, keys[0]) == len([path for path in folder.rglob("*") if path.is_file()]) - 2
    return folder


def test_what_was_signed_passes(repository: Path, keys: tuple[Path, Path]) -> None:
    assert check(repository, keys[1]) == 10


def test_the_manifest_is_one_that_sha256sum_checks(repository: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", MANIFEST], cwd=repository, check=True, capture_output=True)


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "tiny/config.pbtxt").write_text("x"), "tiny/config.pbtxt: has been changed"),
        (lambda folder: (folder / "tiny/1/model.bin").unlink(), "tiny/1/model.bin: is missing"),
        (lambda folder: (folder / "tiny/1/model.py").write_text("evil"), "tiny/1/model.py: was not signed"),
        (lambda folder: (folder / "new").mkdir() or (folder / "new/config.pbtxt").touch(), "new/config.pbtxt: was not"),
        (lambda folder: (folder / "tiny/__pycache__").mkdir() or (folder / "tiny/__pycache__/m.pyc").touch(), "m.pyc"),
        (lambda folder: (folder / "tiny/99").symlink_to("1"), "tiny/99 is no file but a link"),
        (lambda folder: (folder / "evil").symlink_to("../outside"), "evil is no file but a link"),
        (lambda folder: (folder / "evil").symlink_to("tiny/config.pbtxt"), "evil is no file but a link"),
        (lambda folder: os.mkfifo(folder / "tiny/1/model.py"), "tiny/1/model.py is no file but a link or a device"),
        (lambda folder: (folder / MANIFEST).unlink(), "is not signed"),
        (lambda folder: (folder / SIGNATURE).unlink(), "is not signed"),
        (lambda folder: (folder / SIGNATURE).write_bytes(bytes(64)), "signature is not of this key"),
        (lambda folder: (folder / SIGNATURE).write_bytes(b""), "signature is not of this key"),
        (lambda folder: append(folder / MANIFEST, "0  x\n"), "signature is not of this key"),
    ],
)
def test_whatever_was_done_to_it_is_refused_and_named(
    repository: Path, keys: tuple[Path, Path], spoil: Callable[[Path], object], told: str
) -> None:
    spoil(repository)
    with pytest.raises(ManifestError, match=told):
        check(repository, keys[1])


@contextlib.contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Root lists every folder."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_cannot_be_listed_is_refused_since_what_is_in_it_may_be_read(
    repository: Path, keys: tuple[Path, Path]
) -> None:
    with tempfile.TemporaryDirectory() as name:  # in tmp_path another user reads nothing
        copy = Path(shutil.copytree(repository, Path(name, "models")))
        public = Path(shutil.copy(keys[1], name))
        hidden = copy / "tiny/1/__pycache__"
        hidden.mkdir()
        (hidden / "model.pyc").touch()
        subprocess.run(["chmod", "-R", "a+rX", name], check=True)
        hidden.chmod(0o311)
        with an_ordinary_user(), pytest.raises(ManifestError, match="__pycache__ cannot be listed: Permission denied"):
            check(copy, public)
        hidden.chmod(0o755)


def test_what_is_compared_is_what_was_verified(
    repository: Path, tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who writes the manifest of a changed file, and puts the signed one back before openssl reads it."""
    signed = shutil.copy(repository / MANIFEST, tmp_path)
    append(repository / "tiny/config.pbtxt", "# evil")
    digests = ["sha256sum", *sorted(str(p.relative_to(repository)) for p in repository.rglob("*") if p.is_file())]
    lines = subprocess.run(digests, cwd=repository, check=True, capture_output=True, text=True).stdout.splitlines()
    (repository / MANIFEST).write_text("".join(f"{line}\n" for line in lines if MANIFEST not in line))
    program = tmp_path / "bin/openssl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncp {signed} {repository / MANIFEST}\nexec {shutil.which("openssl")} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.raises(ManifestError, match="signature is not of this key"):
        check(repository, keys[1])


def test_the_repositorys_own_path_may_be_a_link(repository: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    (tmp_path / "current").symlink_to(repository)
    assert check(tmp_path / "current", keys[1]) == 10


@pytest.mark.parametrize(
    ("add", "told"),
    [
        (lambda folder: (folder / "__pycache__").mkdir() or (folder / "__pycache__/m.pyc").touch(), "compiled Python"),
        (lambda folder: (folder / "99").symlink_to("1"), "tiny/99 is no file but a link"),
        (lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/a\xff")).touch(), "not UTF-8"),
        (
            lambda folder: (folder / ".export-7-a").mkdir() or (folder / ".export-7-a/x").touch(),
            "tiny/.export-7-a: delete",
        ),
    ],
)
def test_what_a_check_would_refuse_is_not_signed(
    repository: Path, keys: tuple[Path, Path], add: Callable[[Path], object], told: str
) -> None:
    before = (repository / MANIFEST).read_bytes()
    add(repository / "tiny")
    with pytest.raises(ManifestError, match=told):
        sign(repository, keys[0])
    assert (repository / MANIFEST).read_bytes() == before


def test_another_keys_signature_is_none(repository: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    theirs, public = new_key(tmp_path / "theirs")
    with pytest.raises(ManifestError, match="signature is not of this key"):
        check(repository, public)
    sign(repository, theirs)
    with pytest.raises(ManifestError, match="signature is not of this key"):
        check(repository, keys[1])


def test_a_key_that_is_none_leaves_the_old_signature(repository: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    (tmp_path / "key").write_text("no key")
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    with pytest.raises(ManifestError, match="signing failed"):
        sign(repository, tmp_path / "key")
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before


def test_the_command_line_signs_and_checks(repository: Path, keys: tuple[Path, Path]) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "server.signing", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert "10 files signed" in run("sign", repository, "--key", keys[0]).stderr
    assert run("check", repository, "--public-key", keys[1]).returncode == 0
    (repository / "tiny/config.pbtxt").write_text("x")
    refused = run("check", repository, "--public-key", keys[1])
    assert refused.returncode == 1
    assert "has been changed" in refused.stderr


@pytest.mark.triton
def test_triton_serves_a_signed_repository(repository: Path) -> None:
    with EmbeddedTriton(repository) as triton:
        assert triton.is_ready()
