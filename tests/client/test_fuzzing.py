"""The fuzzer, for a moment: that it runs, and what it would do with a file that is not refused as it should be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("atheris", reason="atheris is not installed: pip install atheris")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def fuzz(*arguments: object) -> subprocess.CompletedProcess[str]:
    # A process begins with the peak memory of the one that it is forked from, and the fuzzer takes that for its own: a
    # shell in between has next to none.
    shell = ["sh", "-c", '"$@"; exit $?', "sh"]
    command: list[Any] = [*shell, sys.executable, "-m", "tests.client.fuzz_images", *arguments]
    return subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_nothing_is_found_in_a_moment(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    done = fuzz("-runs=2000", "-max_total_time=20", "-seed=1", folder)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done " in done.stderr
    assert len(list(folder.iterdir())) > 20, "it begins with the seeds, and keeps what reaches new code"
    assert list(tmp_path.iterdir()) == [folder], "no file that crashes"


def test_a_message_that_names_the_patient_is_found(tmp_path: Path) -> None:
    """The fuzzer's own judgement: a decoder that says what it read would be caught."""
    from . import fuzz_images

    def telling(data: bytes, **limits: object) -> None:
        raise fuzz_images.InvalidImage("<bytes>", "cannot be read: Secretperson^Jane")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzz_images, "open_picture", telling)
        with pytest.raises(AssertionError, match="secretperson"):
            fuzz_images.one_input(b"")
