"""The ablation table as Markdown, and its place in a document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from . import pages
from .resampling import GROUPS

NOTE = (
    f"In brackets: 95 % intervals by bootstrap over {GROUPS}. Second lines: the difference to the first row, paired; "
    "in bold where its interval leaves out zero. Lower is better for the errors on corrupted pictures and the ECE."
)


def markdown(compared: dict[str, Any]) -> str:
    """The table and how to read it."""
    columns = compared["columns"]
    present = [name for name in columns if any(name in row["figures"] for row in compared["rows"])]
    head = ["network", *(columns[name] for name in present)]
    rows = [[row["name"], *(_cell(row["figures"].get(name)) for name in present)] for row in compared["rows"]]
    about = f"`{compared['task']}`, fold `{compared['fold']}`, {compared['rows'][0]['images']:,} images.\n\n"
    return f"{about}{pages.markdown_table(head, rows)}\n{NOTE}\n"


def table(compared: dict[str, Any]) -> Table:
    """The same for a terminal: a column for each network, because many figures are wider than a terminal."""
    shown = Table(title=f"{compared['task']}, fold {compared['fold']}", title_justify="left")
    shown.add_column("")
    for row in compared["rows"]:
        shown.add_column(row["name"], overflow="fold")
    for name, title in compared["columns"].items():
        values = [row["figures"].get(name) for row in compared["rows"]]
        if any(values):
            shown.add_row(title, *(_cell(value).replace("<br>", "\n").replace("**", "") for value in values))
    return shown


def _cell(value: dict[str, Any] | None) -> str:
    if value is None:
        return "not measured"
    text = pages.bounded(value["value"], value.get("interval_95"), 3)
    if "difference" not in value:
        return text
    low, high = value["difference_interval_95"]
    change = f"{value['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"{text}<br>{f'**{change}**' if low > 0 or high < 0 else change}"


def record(document: Path, compared: dict[str, Any], section: str = "ablation") -> None:
    """Write the table into a document, between the marks of its section and task.

    Raises:
        ValueError: The document has not got the marks; the message names them.
    """
    pages.record(document, f"{section} {compared['task']}", markdown(compared))
