from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from densescan._cli_run import tell_untried, watched
from densescan.errors import DensescanError, InferenceFailed, ModelNotFound, Overloaded, ServerUnavailable


class Pictures:
    """As `Sources`, of which only the number is asked."""

    def __init__(self, total: int) -> None:
        self.total = total


def screen(*, terminal: bool = True) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def run(outcomes: list[Any], pictures: Any, console: Console) -> list[Any]:
    seen = list(watched(iter(outcomes), pictures, "chest X-ray", console))
    tell_untried(len(seen), pictures, console)
    return seen


@pytest.mark.parametrize(("total", "terminal", "shown"), [(3, True, True), (1, True, False), (3, False, False)])
def test_a_bar_is_drawn_for_several_pictures_on_a_terminal(total: int, terminal: bool, shown: bool) -> None:
    console = screen(terminal=terminal)
    assert run(["result"] * total, Pictures(total), console) == ["result"] * total
    assert ("chest X-ray" in written(console)) == shown


def test_the_bar_knows_of_frames_that_turn_up_on_the_way() -> None:
    pictures, console = Pictures(1), screen()
    outcomes = watched(iter("abcd"), pictures, "chest X-ray", console)  # type: ignore[arg-type]
    next(outcomes)
    pictures.total = 4
    assert len(list(outcomes)) == 3
    assert "100%" in written(console)


@pytest.mark.parametrize("error", [ServerUnavailable("gone"), ModelNotFound("unloaded")])
def test_it_ends_where_the_rest_would_meet_the_same(error: DensescanError) -> None:
    console = screen(terminal=False)
    assert run(["result", error, "result", "result"], Pictures(4), console) == ["result", error]
    assert "2 of 4 pictures were not tried" in written(console)


@pytest.mark.parametrize("error", [Overloaded("full"), InferenceFailed("odd")])
def test_it_goes_on_after_what_concerns_one_picture(error: DensescanError) -> None:
    console = screen(terminal=False)
    assert run([error, "result"], Pictures(2), console) == [error, "result"]
    assert written(console) == ""
