"""A version folder as exporting leaves it: with the digests of its files."""

from __future__ import annotations

import json
from pathlib import Path

from server.manifest import CARD, sha256


def release(folder: Path) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CARD]
    digests = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    (folder / CARD).write_text(json.dumps({"sha256": digests}), encoding="utf-8")
