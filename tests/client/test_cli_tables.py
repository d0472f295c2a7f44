from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from rich.console import Console

from densescan._cli_rows import csv_header, csv_row
from densescan.cli_tables import Row, decision_line, failure_lines, make_console, print_classifications
from densescan.errors import InvalidImage, Overloaded, ServerUnavailable
from densescan.results import Classification
from densescan.tasks import MRI, TASKS, XRAY, Task


def row(task: Task, name: str, threshold: float | None = None) -> Row:
    chances = dict.fromkeys(task.labels, 1 / len(task.labels))
    label = task.labels[-1]
    return name, Classification(task.name, label, chances[label], chances, threshold, task.classifier, "4", name, 12.34)


def printed(task: Task, rows: list[Row], **console: Any) -> str:
    file = io.StringIO()
    print_classifications(Console(file=file, **console), task, rows)
    return file.getvalue()


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_value_is_shown_whole_at_every_width(task: Task, width: int) -> None:
    text = printed(task, [row(task, "a.png")], width=width)
    assert max(map(len, text.splitlines())) <= width
    for part in ("a.png", *task.labels, f"{1 / len(task.labels):.1%}", "12.3"):
        assert part in text
    assert "…" not in text


def test_a_long_name_is_folded_and_not_cut() -> None:
    name = "x" * 150 + ".png"
    text = printed(MRI, [row(MRI, name)], width=80)
    assert text.count("x") == 150
    assert "…" not in text


def test_names_are_not_read_as_markup() -> None:
    assert "[red]a[/red].png" in printed(XRAY, [row(XRAY, "[red]a[/red].png")], width=120)


def test_a_terminal_gets_colours_and_a_file_does_not() -> None:
    rows = [row(XRAY, "a.png")]
    assert "\x1b[" in printed(XRAY, rows, width=120, force_terminal=True, color_system="standard")
    assert "\x1b[" not in printed(XRAY, rows, width=120)


def test_failures_are_listed_by_name_and_reason() -> None:
    rows: list[Row] = [
        ("a.png", InvalidImage("a.png", "is empty")),
        row(XRAY, "b.png"),
        ("c.png", Overloaded("the queue is full")),
        ("d.png", ServerUnavailable("nobody is there")),
    ]
    assert failure_lines(rows) == ["a.png: is empty", "c.png: the queue is full", "nobody is there"]
    assert printed(XRAY, rows, width=120).count("failed") == 3


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_name_and_a_message_of_several_lines_stay_in_one_row_of_csv(end: str) -> None:
    name, error = f"a{end}.png", Overloaded(f"first{end}second")
    lines = [csv_header(XRAY), csv_row(XRAY, (name, error)), csv_row(XRAY, row(XRAY, name))]
    failed, classified = csv.DictReader(io.StringIO("\n".join(lines), newline=""))
    assert (failed["source"], failed["error"]) == (name, str(error))
    assert (classified["source"], classified["label"], classified["error"]) == (name, "PNEUMONIA", "")


def test_the_rule_of_decision_is_named_with_the_model() -> None:
    line = "PNEUMONIA from a probability of 0.35 on, by xray_densenet121 version 4."
    assert decision_line(XRAY, [row(XRAY, "a.png", threshold=0.35)]) == line
    assert decision_line(MRI, [row(MRI, "a.png")]) == "The most probable label, by mri_densenet121 version 4."
    assert decision_line(XRAY, [("a.png", Overloaded("full"))]) is None


def test_what_is_piped_has_no_width(capsys: pytest.CaptureFixture[str]) -> None:
    make_console().print("x" * 500)
    assert capsys.readouterr().out == "x" * 500 + "\n"
