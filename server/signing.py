"""A signature over a whole model repository: weights, configs and the models that are code.

``MANIFEST`` lists the SHA-256 of every file, as ``sha256sum`` writes it, and ``MANIFEST.sig`` is its Ed25519 signature,
made and checked by the program ``openssl``. Beside that the standard library is all that this needs: the container
runs it as it is.

    python -m server.signing sign model_repository --key release-key.pem
    python -m server.signing check model_repository --public-key release.pub
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    from manifest import ManifestError, entries, sha256  # in the image it lies beside this file
except ImportError:
    from server.manifest import ManifestError, entries, sha256

MANIFEST = "MANIFEST"
SIGNATURE = "MANIFEST.sig"


def sign(repository: Path, key: Path) -> int:
    """Write the manifest of a repository and its signature.

    Args:
        repository: Folder of the models.
        key: Ed25519 private key, PEM.

    Returns:
        How many files it lists.

    Raises:
        ManifestError: The key cannot be used, or the repository holds what cannot be signed; the message names it.
    """
    names = _files(repository)
    if compiled := [name for name in names if "__pycache__" in name]:
        raise ManifestError(
            f"compiled Python would be run in place of what was read, such as {compiled[0]}: "
            f"find {repository} -name __pycache__ -exec rm -r {{}} +"
        )
    if unfinished := [name for name in names if "/.export-" in name]:
        raise ManifestError(f"an export that was ended has left {Path(unfinished[0]).parent}: delete that folder")
    digests = {name: sha256(repository / name) for name in names}
    text = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    aside, signature = repository / f".{MANIFEST}.new", repository / f".{SIGNATURE}.new"
    aside.write_text(text, encoding="utf-8")
    try:
        _openssl("-sign", "-inkey", key, "-rawin", "-in", aside, "-out", signature)
        os.replace(signature, repository / SIGNATURE)
        os.replace(aside, repository / MANIFEST)
    finally:
        aside.unlink(missing_ok=True)
        signature.unlink(missing_ok=True)
    return len(digests)


def check(repository: Path, public_key: Path) -> int:
    """Compare every file of a repository with the signed manifest.

    Args:
        repository: Folder of the models.
        public_key: Ed25519 public key, PEM.

    Returns:
        How many files are as they were signed.

    Raises:
        ManifestError: There is no manifest, its signature is not of that key, or files differ; the message names them.
    """
    if not (repository / MANIFEST).is_file() or not (repository / SIGNATURE).is_file():
        raise ManifestError(f"{repository} is not signed: python -m server.signing sign")
    manifest = (repository / MANIFEST).read_bytes()
    # A copy of what was read, since the file itself may have become another; openssl must see how long it is.
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(manifest)
        copy.flush()
        options = ("-verify", "-pubin", "-inkey", public_key, "-rawin")
        _openssl(*options, "-in", copy.name, "-sigfile", repository / SIGNATURE)
    lines = manifest.decode("utf-8").splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    present = set(_files(repository))
    problems = [f"{name}: is missing" for name in sorted(listed.keys() - present)]
    problems += [f"{name}: was not signed" for name in sorted(present - listed.keys())]
    for name in sorted(listed.keys() & present):
        if sha256(repository / name) != listed[name]:
            problems.append(f"{name}: has been changed")
    if problems:
        raise ManifestError(f"{repository} is not what was signed:\n  " + "\n  ".join(problems))
    return len(listed)


def _files(repository: Path) -> list[str]:
    """Paths of all files, relative; compiled Python among them, since that would be run as well."""
    names = []
    for path in entries(repository):
        name = path.relative_to(repository).as_posix()
        # Triton follows a link, and what it leads to can be changed without a change here.
        if path.is_symlink() or not path.is_file():
            raise ManifestError(f"{name} is no file but a link or a device: put what is to be served in its place")
        names.append(name)
    names.sort()
    names = [name for name in names if name not in (MANIFEST, SIGNATURE, f".{MANIFEST}.new", f".{SIGNATURE}.new")]
    if odd := [name for name in names if len(name.splitlines()) != 1 or not _is_text(name)]:
        raise ManifestError(f"a name with a line break, or that is not UTF-8, cannot be listed: {odd[0]!r}")
    return names


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _openssl(*arguments: str | Path) -> None:
    command = ["openssl", "pkeyutl", *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        raise ManifestError("the program openssl is missing: install it, in version 3 or newer") from None
    if done.returncode != 0:
        what = "the signature is not of this key" if "-verify" in arguments else "signing failed"
        raise ManifestError(f"{what}: {(done.stderr or done.stdout).strip().splitlines()[0]}")


def main() -> None:
    """Entry point of ``python -m server.signing``."""
    parser = argparse.ArgumentParser(
        prog="python -m server.signing", description="Sign a model repository, or check it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, option in (("sign", "--key"), ("check", "--public-key")):
        command = commands.add_parser(name)
        command.add_argument("repository", type=Path)
        command.add_argument(option, type=Path, required=True, dest="key", metavar="PEM")
    chosen = parser.parse_args()
    try:
        count = {"sign": sign, "check": check}[chosen.command](chosen.repository, chosen.key)
    except (ManifestError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.stderr.write(f"{count} files {'signed' if chosen.command == 'sign' else 'are as they were signed'}\n")


if __name__ == "__main__":
    main()
