from __future__ import annotations

from pathlib import Path

import pytest

from densescan.serving import backlog


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the machine's shared memory."""
    monkeypatch.setattr(backlog, "MEMORY", tmp_path)
    return tmp_path
