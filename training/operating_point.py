"""The operating point in a model's configs, where the SDK reads it from the server."""

from __future__ import annotations

import re
from pathlib import Path

from densescan.tasks import OPERATING_POINT_PARAMETER

from .runs import write_aside

_VALUE = re.compile(rf'(key:\s*"{OPERATING_POINT_PARAMETER}"\s*value\s*{{\s*string_value:\s*")[^"]*(")')


def write(model: Path, threshold: float) -> list[Path]:
    """Put `threshold` into every config of a model that has an operating point; returns the files that changed."""
    changed = []
    for path in sorted([model / "config.pbtxt", *model.glob("configs/*.pbtxt")]):
        text = path.read_text(encoding="utf-8")
        new = _VALUE.sub(rf"\g<1>{threshold:.6g}\g<2>", text)
        if new != text:
            write_aside(path, lambda aside, new=new: aside.write_text(new, encoding="utf-8"))  # type: ignore[misc]
            changed.append(path)
    return changed
