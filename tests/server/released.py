"""Version folders as exporting leaves them, with the digests of their files, and keys to sign with."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from server.manifest import CARD, sha256


def release(folder: Path) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CARD]
    digests = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    (folder / CARD).write_text(json.dumps({"sha256": digests}), encoding="utf-8")


def new_key(folder: Path) -> tuple[Path, Path]:
    """An Ed25519 key pair, private and public."""
    folder.mkdir()
    private, public = folder / "key.pem", folder / "key.pub"
    for command in (
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", private],
        ["openssl", "pkey", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    return private, public
