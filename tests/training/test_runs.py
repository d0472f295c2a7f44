from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from training.runs import to_json, write_aside, write_json, write_text


def test_what_fails_while_it_is_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def fill(aside: Path) -> None:
        aside.write_text("half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_aside(path, fill)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_null_where_there_is_no_number(tmp_path: Path) -> None:
    write_json(tmp_path / "figures.json", {"auroc": math.nan, "of": {"each": [math.inf, 0.5]}, "pair": (1, math.nan)})
    read = json.loads((tmp_path / "figures.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} in it"))
    assert read == {"auroc": None, "of": {"each": [None, 0.5]}, "pair": [1, None]}
    assert json.loads(to_json(read)) == read


def test_a_page_that_names_a_file_of_another_encoding_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / "page.html", b"R\xf6ntgen.png".decode(errors="surrogateescape"))
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "R\\udcf6ntgen.png"
