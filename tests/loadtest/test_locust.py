from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.__main__ import memory_table
from loadtest.limits import Limits
from loadtest.mix import DEFAULT_MIX, MODELS, parse_mix
from loadtest.server_side import family
from loadtest.shapes import SHAPES, Stage, users_at
from tests.client.fake_server import FakeTriton, answer, refuse
from tests.server.conftest import eventually

from ..conftest import ROOT


class TestMix:
    def test_the_default_has_every_kind_of_call(self) -> None:
        assert set(parse_mix(DEFAULT_MIX)) == set(MODELS)

    def test_a_share_of_nought_leaves_a_kind_out_and_none_means_one(self) -> None:
        assert parse_mix(" classify_xray=2.5, explain=0,encoded ") == {"classify_xray": 2.5, "encoded": 1.0}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "empty"),
            ("explain=0", "empty"),
            ("classify_dog=1", "unknown kind of call 'classify_dog'"),
            ("explain=1,explain=2", "twice"),
            ("explain=much", "expected a number"),
            ("explain=-1", "0 or more"),
            ("explain=nan", "0 or more"),
            ("explain=inf", "0 or more"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, text: str, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            parse_mix(text)


class TestShapes:
    @given(st.sampled_from(list(SHAPES)), st.floats(1, 3600), st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
    def test_there_is_always_a_user_until_the_end_and_never_too_many(
        self, name: str, seconds: float, most: int, share: float
    ) -> None:
        users = users_at(SHAPES[name], seconds, most, share * seconds * (1 - 1e-9))
        assert users is not None
        assert 1 <= users <= most
        assert users_at(SHAPES[name], seconds, most, seconds * 1.001) is None

    def test_a_spike_rises_out_of_a_calm_and_falls_back(self) -> None:
        assert [users_at(SHAPES["spike"], 80, 50, at) for at in (0, 29, 31, 49, 51, 79)] == [5, 5, 50, 50, 5, 5]

    def test_steps_only_rise(self) -> None:
        counts = [users_at(SHAPES["steps"], 50, 10, at) for at in range(50)]
        assert counts == sorted(counts)
        assert sorted(set(counts)) == [2, 4, 6, 8, 10]

    def test_stages_share_the_time(self) -> None:
        shape = (Stage(1, 0.5), Stage(3, 1))
        assert [users_at(shape, 4, 2, at) for at in (0.99, 1.01, 3.99, 4.01)] == [1, 2, 2, None]


class TestLimits:
    ANSWERED: ClassVar[dict[str, Counter[int]]] = {"classify_xray": Counter({20: 94, 50: 1, 900: 5})}

    def stats(self, requests: int = 100, failed: int = 0) -> Any:
        total = SimpleNamespace(num_requests=requests, fail_ratio=failed / max(1, requests))
        return SimpleNamespace(total=total)

    def test_a_run_within_them_breaks_none(self) -> None:
        assert Limits(failure_ratio=0.01, p95_ms=50).broken(self.stats(failed=1), self.ANSWERED) == []

    def test_too_many_failures_are_told(self) -> None:
        assert Limits(failure_ratio=0.01).broken(self.stats(failed=2), self.ANSWERED) == [
            "2.00% of the calls failed; at most 1.00% may"
        ]

    def test_a_slow_kind_of_call_is_named(self) -> None:
        broken = Limits(p95_ms=49).broken(self.stats(), self.ANSWERED)
        assert broken == ["classify_xray: 95 % took up to 50 ms; at most 49 ms may"]

    def test_a_run_without_calls_is_no_success(self) -> None:
        assert Limits().broken(self.stats(requests=0), {}) == ["no call was made"]


def test_memory_is_compared_with_that_after_a_quarter_of_the_run() -> None:
    table = memory_table({"server": [10, 20, 21, 22, 23, 24, 25, 26], "callers": []})
    (cells,) = zip(*(column.cells for column in table.columns), strict=True)
    assert cells == ("server", "21", "26", "+5.0")


LONGER = (2, 20)
"""Seconds of a run: it is repeated for longer where in a slow machine's two seconds not everything was called."""


def run(*arguments: object, seconds: int = 2) -> subprocess.CompletedProcess[str]:
    words = ("--users=4", f"--seconds={seconds}", "--shape=steady", *arguments)
    command = [sys.executable, "-m", "loadtest", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


@pytest.mark.triton
def test_a_short_run_makes_every_call_that_is_served_and_writes_its_report(tiny_triton: Any, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    kinds = ("classify_xray", "classify_mri", "encoded")
    for seconds in LONGER:
        ran = run("--url", tiny_triton.grpc_url, "--report", report, seconds=seconds)
        assert ran.returncode == 0 or "no call was made" in ran.stderr, ran.stderr
        if ran.returncode == 0 and all(kind in ran.stderr + ran.stdout for kind in kinds):
            break
    assert ran.returncode == 0, ran.stderr
    assert "left out explain" in ran.stderr
    for kind in kinds:
        assert kind in ran.stderr + ran.stdout
        assert kind in report.read_text()
    assert f"report: {report}" in ran.stdout


def test_failures_have_their_kind_in_the_statistics_and_decide_the_exit_code(tmp_path: Path) -> None:
    server = FakeTriton()
    try:
        server.on_infer = refuse(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        for name in MODELS["classify_xray"]:
            server.add_model(name, "1", "READY")
        report = tmp_path / "report.html"
        arguments = ("--url", server.url, "--task-mix=classify_xray=1", "--report", report)
        for seconds in LONGER:
            ran = run(*arguments, seconds=seconds)
            assert ran.returncode == 1, ran.stderr
            if "no call was made" not in ran.stderr:
                break
        assert "Overloaded" in report.read_text()
        assert "of the calls failed" in ran.stderr
        assert any(run(*arguments, "--max-failure-ratio=1", seconds=seconds).returncode == 0 for seconds in LONGER)
    finally:
        server.stop()


def test_an_address_where_nobody_answers_is_told_before_anything_starts(tmp_path: Path) -> None:
    ran = run("--url", "127.0.0.1:1", "--report", tmp_path / "report.html")
    assert ran.returncode == 2
    assert "no server available at 127.0.0.1:1" in ran.stderr
    assert not (tmp_path / "report.html").exists()


def test_quick_refusals_do_not_hide_slow_answers(tmp_path: Path) -> None:
    server, asked = FakeTriton(), itertools.count()

    def on_infer(request: Any, context: Any) -> Any:
        if next(asked) % 4:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        time.sleep(0.3)
        return answer([0.2, 0.8])

    try:
        server.on_infer = on_infer
        for name in MODELS["classify_xray"]:
            server.add_model(name, "1", "READY")
        words = ("--url", server.url, "--task-mix=classify_xray=1", "--report", tmp_path / "report.html")
        for seconds in LONGER:
            ran = run(*words, "--max-failure-ratio=1", "--max-p95-ms=250", seconds=seconds)
            if "95 % took" in ran.stderr:
                break
        assert ran.returncode == 1
        assert "classify_xray: 95 % took up to" in ran.stderr
    finally:
        server.stop()


def test_a_run_that_is_told_to_end_takes_its_callers_with_it(tmp_path: Path) -> None:
    """By `kill`, or by a job that was cancelled: the load is on somebody's server."""
    server = FakeTriton()
    try:
        for name in MODELS["classify_xray"]:
            server.add_model(name, "1", "READY")
        words = ("--users=1", "--seconds=300", "--shape=steady", "--task-mix=classify_xray=1", "--url", server.url)
        command = [sys.executable, "-m", "loadtest", *words, "--report", str(tmp_path / "report.html")]
        running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert eventually(lambda: bool(server.asked("ModelInfer")), 60)
            started = family(running.pid)
            assert len(started) > 1
            running.terminate()
            assert running.wait(30) == 128 + signal.SIGTERM
            assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
        finally:
            running.kill()
            running.wait()
    finally:
        server.stop()


def test_a_server_that_refuses_to_say_how_it_is_is_told_and_no_limit_of_the_run(tmp_path: Path) -> None:
    server = FakeTriton()
    try:
        server.on_index = refuse(grpc.StatusCode.UNAUTHENTICATED, "no token")
        ran = run("--url", server.url, "--report", tmp_path / "report.html")
        assert ran.returncode == 2
        assert "refused to answer for its status: no token" in ran.stderr
        assert "Traceback" not in ran.stderr
    finally:
        server.stop()


def test_nothing_that_was_drawn_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server = FakeTriton()
    try:
        for name in MODELS["classify_xray"]:
            server.add_model(name, "1", "READY")
        run("--url", server.url, "--task-mix=classify_xray=1", "--report", tmp_path / "report.html")
        assert [path.name for path in tmp_path.glob("densescan-pictures-*")] == []
        assert (tmp_path / "report.html").is_file()
    finally:
        server.stop()


def test_a_mix_that_makes_no_sense_is_refused_before_anything_starts() -> None:
    ran = run("--task-mix=classify_dog=1")
    assert ran.returncode == 2
    assert "classify_dog" in ran.stderr
