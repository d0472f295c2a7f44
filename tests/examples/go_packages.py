"""Go and what the Go example needs, where the machine has none of it: unpacked from Debian's archive, not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_SUITE = "trixie"  # the first with a grpc-go that the example is written for
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_COMPILER = "golang-1.24"
_PACKAGES = (
    f"{_COMPILER}-go",
    f"{_COMPILER}-src",
    "protoc-gen-go",
    "protoc-gen-go-grpc",
    "golang-google-grpc-dev",
    "golang-google-protobuf-dev",
    "golang-google-genproto-dev",
    "golang-github-golang-protobuf-1-5-dev",
    "golang-golang-x-net-dev",
    "golang-golang-x-sys-dev",
    "golang-golang-x-text-dev",
)


class NotToBeHad(Exception):
    """This machine cannot get the packages; the message says why."""


def unpacked(folder: Path) -> Path:
    """The packages' files below a folder, as they would lie below ``/``.

    Raises:
        NotToBeHad: This is no Debian, or its archive cannot be reached.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None or not _KEYRING.is_file():
        raise NotToBeHad("Go's packages are taken from Debian's archive, and this is no Debian")
    for name in ("lists/partial", "cache/archives/partial", "debs", "root"):
        (folder / name).mkdir(parents=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_archive()} {_SUITE} main\n")
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "2",
    }
    apt_get = ["apt-get", "-q", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    for command in ([*apt_get, "update"], [*apt_get, "download", *_PACKAGES]):
        _run(command, folder / "debs")
    for package in sorted((folder / "debs").glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(folder / "root")], folder)
    return folder / "root"


def goroot(root: Path) -> Path:
    """Where the compiler lies in what `unpacked` answers."""
    return root / "usr/lib" / _COMPILER.replace("golang", "go")


def _archive() -> str:
    """The archive that this machine's own packages come from."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    found = [uri for uri in _run(command, Path.cwd()).split() if uri.rstrip("/").endswith("/debian")]
    if not found:
        raise NotToBeHad("this machine has no Debian archive among its package sources")
    return found[0]


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotToBeHad(f"{command[0]}: {type(error).__name__}") from error
    if done.returncode != 0:
        raise NotToBeHad(f"{command[0]} cannot get Go's packages here: {done.stderr.strip()[-200:]}")
    return done.stdout
