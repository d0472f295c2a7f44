from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from server.errors import ServerStartError
from server.logs import LogPrinter, parse_line

LOADED = "I1124 15:06:29.123456 4711 model_lifecycle.cc:849] \"successfully loaded 'xray_densenet121'\""
FAILED = "E1124 15:06:30.000001 4711 model_lifecycle.cc:654] \"failed to load 'a': no file\""
NOISE = 'W1124 15:06:28.9 4711 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory"'


def printed(*lines: str, show_info: bool = False) -> str:
    stream = io.StringIO()
    with LogPrinter(Console(file=stream, width=300), show_info=show_info) as printer:
        for line in lines:
            printer(line)
    return stream.getvalue()


def test_a_line_is_taken_apart() -> None:
    line = parse_line(FAILED)
    assert line is not None
    assert (line.severity, line.time, line.message) == ("E", "15:06:30", "failed to load 'a': no file")
    assert parse_line("+------+") is None


def test_errors_are_shown_and_information_only_on_demand() -> None:
    assert "failed to load" in printed(LOADED, FAILED)
    assert "successfully" not in printed(LOADED, FAILED)
    assert "successfully" in printed(LOADED, show_info=True)


def test_what_means_nothing_without_a_gpu_is_left_out() -> None:
    assert printed(NOISE) == ""


def test_a_traceback_follows_its_error_and_a_table_its_information() -> None:
    assert "line 3, in load" in printed(FAILED, "  File 'model.py', line 3, in load")
    assert printed(LOADED, "| Model | Status |") == ""


def test_a_log_file_gets_everything(tmp_path: Path) -> None:
    with LogPrinter(Console(file=io.StringIO()), log_file=tmp_path / "triton.log") as printer:
        for line in (LOADED, NOISE, "+---+"):
            printer(line)
    assert (tmp_path / "triton.log").read_text().splitlines() == [LOADED, NOISE, "+---+"]


def test_a_log_file_keeps_what_an_earlier_run_wrote(tmp_path: Path) -> None:
    for line in (LOADED, FAILED):
        with LogPrinter(Console(file=io.StringIO()), log_file=tmp_path / "triton.log") as printer:
            printer(line)
    assert (tmp_path / "triton.log").read_text().splitlines() == [LOADED, FAILED]


def test_a_message_of_several_lines_is_shown_in_lines() -> None:
    line = parse_line(FAILED.replace("no file", "no file\\nno folder"))
    assert line is not None
    assert line.message == "failed to load 'a': no file\nno folder"


def test_what_comes_before_the_first_line_of_the_log_is_information() -> None:
    assert printed("+---+", FAILED).startswith("15:06:30")
    assert printed("+---+", FAILED, show_info=True).startswith("+---+")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_file_that_cannot_be_written_is_told_once_and_the_log_is_still_shown() -> None:
    stream = io.StringIO()
    with LogPrinter(Console(file=stream, width=300), log_file=Path("/dev/full")) as printer:
        for line in (FAILED, FAILED, FAILED):
            printer(line)
    assert stream.getvalue().count("/dev/full cannot be written: No space left on device") == 1
    assert stream.getvalue().count("failed to load 'a'") == 3


def test_a_log_file_that_cannot_be_opened_is_told_before_anything_starts(tmp_path: Path) -> None:
    printer = LogPrinter(Console(file=io.StringIO()), log_file=tmp_path / "nowhere/triton.log")
    with pytest.raises(ServerStartError, match=r"triton\.log cannot be opened") as caught, printer:
        pass
    assert "--log-file" in caught.value.hint
