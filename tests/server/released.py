"""Version folders as exporting leaves them, with the digests of their files, and keys to sign with."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np

from densescan import drift
from server.manifest import CARD, sha256

from . import tiny

LABELS = ["a", "b", "c"]


def release(folder: Path) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CARD]
    digests = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    (folder / CARD).write_text(json.dumps({"sha256": digests}), encoding="utf-8")


def with_reference(folder: Path, pictures: np.ndarray, edges: tuple[float, ...] = (0.0, 0.6, 0.8, 0.95)) -> Path:
    """A version folder of the tiny network with the counts of its release in the card."""
    release(folder)
    card = json.loads((folder / CARD).read_text())
    table = drift.count(tiny.expected_probabilities(pictures), edges).astype(int).tolist()
    card["drift"] = {"edges": list(edges), "answers": dict(zip(LABELS, table, strict=True))}
    (folder / CARD).write_text(json.dumps(card))
    return folder


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
