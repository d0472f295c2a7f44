"""The SDK's own types, and what a type checker tells its users."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed: pip install 'densescan[dev]'")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

USE = """
from densescan import AsyncClient, Client, Classification, DensescanError, Explanation

with Client() as client:
    reveal_type(client.classify_xray("film.png"))
    reveal_type(client.explain_mri(b""))
    reveal_type(next(client.classify_many("mri", [])))
    client.classify_mri("slice.png", threshold=0.5)
    client.classify_xray(7)


async def main() -> None:
    async with AsyncClient() as client:
        reveal_type(await client.classify_xray("film.png"))
        async for outcome in client.explain_many("xray", []):
            reveal_type(outcome)
"""


def mypy(*arguments: object) -> str:
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--strict", *arguments]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=500)
    return done.stdout + done.stderr


def test_the_sdk_is_strictly_typed() -> None:
    assert "Success: no issues found" in mypy("client/densescan")


def test_a_users_program_is_told_what_comes_back_and_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(USE)
    said = mypy(tmp_path / "use.py")
    for kind in (
        'Revealed type is "densescan.results.Classification"',
        'Revealed type is "densescan.explanation.Explanation"',
        'Revealed type is "densescan.results.Classification | densescan.errors.DensescanError"',
        'Revealed type is "densescan.explanation.Explanation | densescan.errors.DensescanError"',
        'Unexpected keyword argument "threshold"',
        'incompatible type "int"',
    ):
        assert kind in said, said
    assert said.count(": error:") == 2
