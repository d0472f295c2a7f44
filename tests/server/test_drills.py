from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from server.drills import faults, machine, rollouts
from server.drills.__main__ import BEGIN, END, table, with_two_versions, write_into
from server.drills.callers import Callers, Tally
from server.drills.faults import Outcome
from server.drills.subject import TOLERANCE, Subject, prepare
from server.embedded import EmbeddedTriton

from . import tiny
from .conftest import eventually

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.triton, pytest.mark.slow]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The tiny network in two versions that answer differently."""
    repository = tiny.write_repository(tmp_path_factory.mktemp("drills"), delay_us=0)
    release = tiny.WEIGHTS.copy()
    try:
        tiny.WEIGHTS[:] = -release
        tiny.save(tiny.single(), repository / "tiny/2")
    finally:
        tiny.WEIGHTS[:] = release
    return prepare(repository, "tiny")


def test_the_expected_answers_are_the_networks_own_and_differ(subject: Subject) -> None:
    expected = subject.expected["1"]
    assert expected == pytest.approx(tiny.expected_probabilities(subject.pictures), abs=1e-5)
    assert np.abs(expected - subject.expected["2"]).max(axis=1).max() > 10 * TOLERANCE
    distances = np.abs(expected[:, None] - expected[None]).max(axis=-1)
    assert distances[~np.eye(len(expected), dtype=bool)].min() > 10 * TOLERANCE


def test_callers_notice_answers_of_another_picture_and_of_an_unknown_version(subject: Subject) -> None:
    mixed_up = {"2": np.roll(subject.expected["2"], 1, axis=0)}
    for expected in (mixed_up, {"1": subject.expected["1"]}, {"2": subject.expected["1"]}):
        with (
            EmbeddedTriton(subject.repository, models=["tiny"]) as triton,
            Callers(subject, [triton.grpc_url], expected=expected) as callers,
        ):
            assert eventually(lambda tally=callers.tally: tally.wrong > 10)
        assert callers.tally.wrong > callers.tally.right.total()


def test_servers_are_replaced_under_load_without_a_failed_or_wrong_answer(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "LEAVING_S", 0.3)
    outcome = rollouts.rolling_servers(subject)
    assert outcome.held, outcome


def test_a_version_is_loaded_and_withdrawn_under_load_without_a_failed_or_wrong_answer(subject: Subject) -> None:
    outcome = rollouts.model_control(subject)
    assert outcome.held, outcome


def test_a_broken_version_takes_nothing_down(subject: Subject) -> None:
    outcome = rollouts.broken_version(subject)
    assert outcome.held, outcome
    # Why rolling servers are recommended: by model control, all of them would leave the Service at once.
    assert "not ready" in outcome.note


def test_a_frozen_server_answers_late_or_not_at_all_and_never_wrongly(subject: Subject) -> None:
    outcome = faults.server_frozen(subject)
    assert outcome.held, outcome
    assert outcome.tally.pause_s > 4
    assert any(kind.startswith("DEADLINE_EXCEEDED") for kind in outcome.tally.failed)


def test_a_corrupt_onnx_file_is_not_served_and_takes_nothing_down(subject: Subject) -> None:
    outcome = rollouts.corrupt_onnx(subject)
    assert outcome.held, outcome


def test_callers_who_do_not_read_hold_up_nobody_else(subject: Subject) -> None:
    outcome = machine.slow_readers(subject)
    assert outcome.held, outcome
    # Whoever reads them would have had some 50,000 bytes.
    assert 2 * 1024 <= int(outcome.note.split()[1]) < 20_000


@pytest.mark.parametrize("drill", [machine.shared_memory_full, machine.clock_jumps])
def test_what_the_server_stands_on_makes_no_answer_wrong(subject: Subject, drill: Callable[[Subject], Outcome]) -> None:
    try:
        outcome = drill(subject)
    except machine.CannotBeHeld as error:
        pytest.skip(str(error))
    assert outcome.held, outcome


def test_a_file_system_is_full_while_it_is_filled_and_empty_again_after(tmp_path: Path) -> None:
    """On a file system of four pages, in a mount namespace of its own."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("mounting needs root and the program unshare")
    code = (
        "import sys, pathlib\nfrom server.drills.machine import filled\nfolder = pathlib.Path(sys.argv[1])\n"
        "with filled(folder):\n    try:\n        (folder / 'more').write_bytes(b'x')\n        print('room')\n"
        "    except OSError as error:\n        print(error.errno)\n"
        "(folder / 'more').write_bytes(b'x')\nprint(sorted(path.name for path in folder.iterdir()))\n"
    )
    mount = 'mount -t tmpfs -o size=16k tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        mount,
        "sh",
        tmp_path,
        sys.executable,
        code,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{errno.ENOSPC}\n['more']\n", done.stderr


def test_a_drill_that_a_machine_cannot_hold_is_left_out_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(machine.CannotBeHeld, match="root"):
        machine.shared_memory_full(None)  # type: ignore[arg-type]
    monkeypatch.setattr(machine, "_LIBFAKETIME", ())
    with pytest.raises(machine.CannotBeHeld, match="apt-get install faketime"):
        machine.clock_jumps(None)  # type: ignore[arg-type]


def test_a_model_with_one_version_gets_a_second_to_roll_out(
    subject: Subject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("two")
    copy = with_two_versions(tiny.write_repository(folder / "one"), "tiny", folder / "copy")
    assert sorted(path.name for path in (copy / "tiny").iterdir() if path.name.isdigit()) == ["1", "2"]


def test_the_table_goes_between_the_marks_and_says_what_did_not_hold(tmp_path_factory: pytest.TempPathFactory) -> None:
    tally = Tally(pause_s=1.25)
    tally.right["1"] = 7
    tally.failed["UNAVAILABLE: a|b"] = 2
    outcome = faults.Outcome("a drill", "a fault", tally, "all", False, "a note")
    document = tmp_path_factory.mktemp("doc") / "DOC.md"
    document.write_text(f"before\n{BEGIN}\nbygone\n{END}\nafter\n")
    write_into(document, table([outcome], "tiny"))
    write_into(document, table([outcome], "tiny"))
    text = document.read_text()
    assert text.startswith(f"before\n{BEGIN}\n`tiny`")
    assert text.endswith(f"{END}\nafter\n")
    assert "| a drill | a fault | 7 | 0 | 2 UNAVAILABLE: a/b | 1.2 s | all | **NO**; a note |" in text
    assert "bygone" not in text
