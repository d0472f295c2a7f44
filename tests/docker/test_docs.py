"""What the pages say is tested must be tested, and where they point there must be something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .images import ROOT

PAGES = [ROOT / "docs" / name for name in ("SECURITY.md", "RELIABILITY.md", "ROLLOUT.md", "OPERATIONS.md", "SIZING.md")]
TESTS = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    for file, name in re.findall(r"`(?:tests/[\w/]*)?(test_\w+\.py)(?:::(\w+))?", text):
        assert file in TESTS, file
        assert not name or f"def {name}(" in TESTS[file], f"{file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    paths = re.findall(r"`((?:docker|docs|server|client|tests)/[\w./-]+)`", text) + [
        f"docs/{name}" for name in re.findall(r"\]\(([A-Z]+\.md)\)", text)
    ]
    assert [path for path in paths if not (ROOT / path).exists() and "server-key" not in path] == []
