from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import RLELossless
from typer.testing import CliRunner

from densescan import Client, _bench_command, _explain_command, cli
from densescan._benching import measure, measure_many
from densescan._commands import app
from densescan.tasks import MRI, RESEARCH_ONLY, XRAY

from . import dicom_files
from .fake_server import FakeTriton, answer, refuse

RAMP = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
DEAD = "127.0.0.1:1"


assert _bench_command.app is _explain_command.app is app  # importing them adds the commands


def run(*arguments: object, url: str | None = None) -> Any:
    variables = {"DENSESCAN_URL": url, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=variables)


def test_a_table_names_file_label_and_every_probability(fake: FakeTriton, film_path: Path) -> None:
    done = run("classify", "xray", film_path, url=fake.url)
    assert done.exit_code == 0, done.output
    for part in (str(film_path), "PNEUMONIA", "80.0%", "0.2000", "0.8000", "xray_densenet121 version 1"):
        assert part in done.stdout
    assert done.stdout.rstrip().endswith(RESEARCH_ONLY)
    assert done.stderr == ""


def test_mri_prints_four_probabilities(fake: FakeTriton, film_path: Path) -> None:
    done = run("classify", "mri", film_path, url=fake.url)
    assert done.exit_code == 0
    for part in (*MRI.labels, "0.1000", "0.2000", "0.3000", "0.4000", "most probable label"):
        assert part in done.stdout


def test_a_piped_table_never_cuts_a_long_name_and_has_no_colours(
    fake: FakeTriton, film: Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / ("long-name-" * 20 + ".png")
    film.save(path)
    done = run("classify", "mri", path, url=fake.url)
    assert any(line.strip().startswith(str(path)) for line in done.stdout.splitlines())
    assert "\x1b" not in done.stdout


def test_json_is_one_object_a_line_with_the_errors_among_them(
    fake: FakeTriton, film_path: Path, tmp_path: Path
) -> None:
    done = run("classify", "xray", film_path, tmp_path / "missing.png", film_path, "--json", url=fake.url)
    first, second, third = (json.loads(line) for line in done.stdout.splitlines())
    assert done.exit_code == 1
    assert (first["label"], third["source"]) == ("PNEUMONIA", str(film_path))
    assert second["error"]["type"] == "InvalidImage"
    assert second["source"] == str(tmp_path / "missing.png")
    assert "no such file" in second["error"]["message"]


def test_a_bad_file_is_named_with_its_reason_and_the_others_are_classified(
    fake: FakeTriton, film_path: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "notes.txt"
    bad.write_text("no picture")
    done = run("classify", "xray", bad, film_path, url=fake.url)
    assert done.exit_code == 1
    assert f"{bad}: is no picture" in done.stderr
    assert "PNEUMONIA" in done.stdout


def test_only_bad_files_print_no_table(fake: FakeTriton, tmp_path: Path) -> None:
    done = run("classify", "xray", tmp_path / "missing.png", url=fake.url)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no such file" in done.stderr


def test_a_name_too_long_for_the_system_is_no_traceback(fake: FakeTriton, film_path: Path) -> None:
    done = run("classify", "xray", "x" * 300 + ".png", film_path, "--json", url=fake.url)
    assert done.exit_code == 1
    assert ["error" in json.loads(line) for line in done.stdout.splitlines()] == [True, False]


def test_a_folder_stands_for_the_pictures_in_it_sorted(fake: FakeTriton, film: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.PNG", "a.jpg", "sub/c.png"):
        film.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("left out")
    done = run("classify", "xray", tmp_path, "--json", url=fake.url)
    sources = [json.loads(line)["source"] for line in done.stdout.splitlines()]
    assert sources == [str(tmp_path / name) for name in ("a.jpg", "b.PNG", "sub/c.png")]


def test_what_a_folder_holds_besides_is_told_and_nothing_that_should_be_a_picture_is_passed_over(
    fake: FakeTriton, film: Image.Image, tmp_path: Path
) -> None:
    film.save(tmp_path / "a.png")
    film.save(tmp_path / "b.jfif", "JPEG")
    film.save(tmp_path / "IM1", "PNG")
    (tmp_path / "notes.txt").write_text("left out")
    (tmp_path / "._a.png").write_bytes(b"of a Mac")
    for hidden in (".git/config", ".ipynb_checkpoints/a-checkpoint.png"):
        (tmp_path / hidden).parent.mkdir()
        (tmp_path / hidden).touch()
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    done = run("classify", "xray", tmp_path, "--json", url=fake.url)
    rows = {Path(row["source"]).name: row for row in map(json.loads, done.stdout.splitlines())}
    assert sorted(rows) == ["a.png", "b.jfif", "empty.dcm", "lost.png"]
    assert ["error" in rows[name] for name in sorted(rows)] == [False, False, True, True]
    assert done.exit_code == 1
    assert f"2 files, such as {tmp_path / 'IM1'}" in done.stderr


def test_a_folder_holds_dicom_of_any_name(fake: FakeTriton, tmp_path: Path) -> None:
    film = dicom_files.saved(dicom_files.dataset(RAMP))
    for name in ("a.dcm", "IM0001", "b.DCM"):
        (tmp_path / name).write_bytes(film)
    (tmp_path / "README").write_text("left out")
    done = run("classify", "xray", tmp_path, "--json", url=fake.url)
    sources = [json.loads(line)["source"] for line in done.stdout.splitlines()]
    assert sources == [str(tmp_path / name) for name in ("IM0001", "a.dcm", "b.DCM")]


def test_each_frame_of_a_series_has_its_line_and_a_damaged_one_spoils_no_other(
    fake: FakeTriton, film_path: Path, tmp_path: Path
) -> None:
    series, cut = tmp_path / "series.dcm", tmp_path / "cut.dcm"
    data = dicom_files.saved(dicom_files.dataset(np.stack([RAMP, RAMP[:, ::-1]]), Modality="CT"))
    series.write_bytes(data)
    cut.write_bytes(data[:600])
    done = run("classify", "xray", series, cut, film_path, "--json", url=fake.url)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["source"] for row in rows] == [f"{series}#1", f"{series}#2", str(cut), str(film_path)]
    assert ["error" in row for row in rows] == [False, False, True, False]
    assert "modality CT" in rows[0]["warnings"][0]
    assert "modality CT" in run("classify", "xray", series, url=fake.url).stderr


def test_a_frame_of_one_level_has_its_line_and_ends_no_series(fake: FakeTriton, tmp_path: Path) -> None:
    series = tmp_path / "series.dcm"
    air = np.zeros_like(RAMP)
    series.write_bytes(dicom_files.saved(dicom_files.dataset(np.stack([RAMP, air, RAMP, air, RAMP]))))
    done = run("classify", "xray", series, "--json", url=fake.url)
    assert done.exit_code == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["source"] for row in rows] == [f"{series}#{number}" for number in range(1, 6)]
    assert ["error" in row for row in rows] == [False, True, False, True, False]


def test_what_was_not_tried_counts_the_frames_of_a_series(fake: FakeTriton, tmp_path: Path) -> None:
    series = tmp_path / "series.dcm"
    series.write_bytes(dicom_files.saved(dicom_files.dataset(np.stack([np.roll(RAMP, n, axis=1) for n in range(9)]))))
    fake.on_infer = refuse(grpc.StatusCode.NOT_FOUND, "unknown model")
    done = run("classify", "xray", series, url=fake.url)
    assert done.exit_code == 3
    assert "8 of 9 pictures were not tried" in done.stderr


def test_frames_that_a_damaged_series_announces_are_not_waited_for(fake: FakeTriton, tmp_path: Path) -> None:
    file = dicom_files.dataset(np.stack([RAMP, RAMP[:, ::-1]]))
    file.compress(RLELossless)
    file.NumberOfFrames = 700
    path = tmp_path / "damaged.dcm"
    path.write_bytes(dicom_files.saved(file))
    done = run("classify", "xray", path, url=fake.url)
    assert done.exit_code == 1
    assert "damaged.dcm" in done.stderr
    assert "not tried" not in done.stderr


def test_the_limits_of_the_variables_hold_for_every_kind_of_file(
    fake: FakeTriton, film_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slice_ = tmp_path / "slice.dcm"
    slice_.write_bytes(dicom_files.saved(dicom_files.dataset(RAMP)))
    for variable in ("DENSESCAN_MAX_PIXELS", "DENSESCAN_MAX_FILE_BYTES"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1000")
            done = run("classify", "xray", slice_, film_path, "--json", url=fake.url)
        assert done.stdout.count("over the limit of 1,000") + done.stdout.count("than the limit of 1,000") == 2


def test_a_pipe_is_read_once(fake: FakeTriton, film_path: Path, tmp_path: Path) -> None:
    """What a shell passes for <(command): a look into it would take its beginning away."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(pipe.write_bytes, film_path.read_bytes())
        done = run("classify", "xray", pipe, url=fake.url)
    assert done.exit_code == 0, done.output


def test_a_pattern_stands_for_the_files_that_match(fake: FakeTriton, film: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.png", "sub/c.png", "d.bmp"):
        film.save(tmp_path / name)
    film.save(tmp_path / "odd[1].png")
    done = run("classify", "xray", tmp_path / "**/*.png", tmp_path / "odd[1].png", "--json", url=fake.url)
    sources = [json.loads(line)["source"] for line in done.stdout.splitlines()]
    assert sources == [str(tmp_path / name) for name in ("a.png", "b.png", "odd[1].png", "sub/c.png", "odd[1].png")]
    nothing = run("classify", "xray", tmp_path / "*.gif", url=fake.url)
    assert nothing.exit_code == 2
    assert "no file matches" in nothing.stderr


def test_csv_has_a_header_a_column_for_each_label_and_the_errors(
    fake: FakeTriton, film_path: Path, tmp_path: Path
) -> None:
    done = run("classify", "xray", film_path, tmp_path / "a,b.png", "--csv", url=fake.url)
    good, bad = csv.DictReader(done.stdout.splitlines())
    assert done.exit_code == 1
    assert (good["source"], good["label"], good["PNEUMONIA"], good["threshold"], good["error"]) == (
        str(film_path),
        "PNEUMONIA",
        "0.800000",
        "0.5",
        "",
    )
    assert bad["source"] == str(tmp_path / "a,b.png")
    assert bad["label"] == ""
    assert "no such file" in bad["error"]
    assert run("classify", "mri", film_path, "--csv", "--json", url=fake.url).exit_code == 2


def test_bench_measures_each_number_of_callers(fake: FakeTriton, film_path: Path) -> None:
    done = run("bench", "xray", "-c", 1, "-c", 3, "--seconds", 0.3, "--json", url=fake.url)
    assert done.exit_code == 0, done.output
    one, three = map(json.loads, done.stdout.splitlines())
    assert [(each["callers"], each["failed"]) for each in (one, three)] == [(1, {}), (3, {})]
    answered = [each["images_per_s"] * each["seconds"] for each in (one, three)]
    assert answered[0] > 0.99
    assert answered[1] > 2.99
    assert 0 < one["p50_ms"] <= one["p95_ms"] <= one["p99_ms"]
    assert len(fake.asked("ModelInfer")) == pytest.approx(sum(answered) + 2, abs=1e-6)  # two that are not counted
    table = run("bench", "mri", film_path, "-c", 2, "--seconds", 0.1, url=fake.url)
    assert "images/s" in table.stdout


def test_bench_times_each_call_from_its_own_beginning(fake: FakeTriton, film: Image.Image) -> None:
    with Client(fake.url) as client:
        found = measure(client, XRAY, film, callers=1, seconds=0.5)
    # One after the other, the slower half of them takes no longer than all.
    calls = found.images_per_s * found.seconds
    assert found.p50_ms is not None
    assert found.p50_ms / 1000 * (calls - 1) / 2 <= found.seconds


def test_bench_measures_batches_beside_single_calls(fake: FakeTriton) -> None:
    done = run("bench", "xray", "-c", 3, "--seconds", 0.3, "--many", "--json", url=fake.url)
    assert done.exit_code == 0, done.output
    single, many = map(json.loads, done.stdout.splitlines())
    assert [(each["way"], each["callers"]) for each in (single, many)] == [("single", 3), ("many", 3)]
    assert many["images_per_s"] * many["seconds"] > 2.99
    assert many["p50_ms"] is None
    answered = (single["images_per_s"] * single["seconds"]) + (many["images_per_s"] * many["seconds"])
    assert len(fake.asked("ModelInfer")) == pytest.approx(answered + 2, abs=1e-6)
    assert "many, 3" in run("bench", "xray", "-c", 3, "--seconds", 0.1, "--many", url=fake.url).stdout


def full_after_the_first() -> Callable[[Any, Any], Any]:
    """One answer, and then a full queue."""
    answered = iter([True])

    def infer(request: Any, context: Any) -> Any:
        if next(answered, False):
            return answer([0.2, 0.8])
        context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

    return infer


def test_bench_counts_what_failed_and_says_so(fake: FakeTriton) -> None:
    fake.on_infer = full_after_the_first()
    done = run("bench", "xray", "-c", 2, "--seconds", 0.1, "--json", url=fake.url)
    assert done.exit_code == 3
    assert json.loads(done.stdout)["failed"]["Overloaded"] >= 2


def test_bench_counts_what_failed_of_a_batch(fake: FakeTriton, film: Image.Image) -> None:
    fake.on_infer = full_after_the_first()
    with Client(fake.url) as client:
        measured = measure_many(client, XRAY, film, callers=2, seconds=0.1)
    assert (measured.images_per_s, set(measured.failed)) == (0, {"Overloaded"})
    assert measured.failed["Overloaded"] == len(fake.asked("ModelInfer")) - 1 >= 2


def test_bench_of_no_picture_is_wrong_usage_and_names_the_file(fake: FakeTriton, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("no picture")
    done = run("bench", "xray", path, "-c", 1, "--seconds", 0.1, url=fake.url)
    assert done.exit_code == 2
    assert "notes.png" in done.stderr
    assert fake.asked("ModelInfer") == []


def test_bench_without_a_server_measures_nothing_and_is_exit_code_3() -> None:
    done = run("bench", "xray", "-c", 1, "--seconds", 0.1, url=DEAD)
    assert done.exit_code == 3
    assert done.stdout == ""
    assert DEAD in done.stderr


@pytest.mark.parametrize("kind", [["--csv"], []])
def test_a_name_in_another_encoding_goes_out_as_it_is(
    fake: FakeTriton, film: Image.Image, tmp_path: Path, kind: list[str]
) -> None:
    name = "Mädchen.png".encode("latin-1")
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb") as file:
        film.save(file, "PNG")
    done = subprocess.run(
        [sys.executable, "-m", "densescan", "classify", "xray", path, *kind, "--url", fake.url],
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict", "COLUMNS": "300"},  # as in most languages' terminals
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from densescan.cli import main; main()"],
        env={**os.environ, "_DENSESCAN_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "densescan" in done.stdout
    assert "_DENSESCAN_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "position", "names"),
    [
        ("densescan cl", 1, ["classify"]),
        ("densescan explain ", 2, ["xray", "mri"]),
        ("densescan bench --ca", 2, ["--callers"]),
    ],
)
def test_a_shell_completes_the_names_of_commands_and_options(words: str, position: int, names: list[str]) -> None:
    variables = {"_DENSESCAN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    done = subprocess.run(
        [sys.executable, "-c", "from densescan.cli import main; main()"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == names, done.stderr


def test_the_time_limit_has_a_variable(fake: FakeTriton, film_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSESCAN_TIMEOUT_S", "0.2")
    fake.on_infer = fake.hang
    assert "within 0.2 s" in run("classify", "xray", film_path, url=fake.url).stderr


def test_the_threshold_decides(fake: FakeTriton, film_path: Path) -> None:
    done = run("classify", "xray", film_path, "--threshold", "0.9", "--json", url=fake.url)
    assert (json.loads(done.stdout)["label"], json.loads(done.stdout)["threshold"]) == ("NORMAL", 0.9)


def test_the_option_comes_before_the_variable(fake: FakeTriton, film_path: Path) -> None:
    assert run("classify", "xray", film_path, "--url", fake.url, url=DEAD).exit_code == 0


def test_an_absent_server_is_exit_code_3_and_ends_the_run(film_path: Path) -> None:
    done = run("classify", "xray", *[film_path] * 20, url=DEAD)
    assert done.exit_code == 3
    assert done.stderr.count(f"no server available at {DEAD}") == 1
    assert "19 of 20 pictures were not tried" in done.stderr


@pytest.mark.parametrize(
    ("code", "details", "exit_code"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", 3),
        (grpc.StatusCode.NOT_FOUND, "unknown model", 3),
        (grpc.StatusCode.INTERNAL, "broken", 1),
    ],
)
def test_the_exit_code_tells_the_servers_fault_from_the_files(
    fake: FakeTriton, film_path: Path, code: Any, details: str, exit_code: int
) -> None:
    fake.on_infer = refuse(code, details)
    done = run("classify", "mri", film_path, url=fake.url)
    assert done.exit_code == exit_code
    assert details in done.stderr


def test_a_deadline_is_exit_code_3(fake: FakeTriton, film_path: Path) -> None:
    fake.on_infer = fake.hang
    assert run("classify", "mri", film_path, "--timeout", "0.3", url=fake.url).exit_code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "xray"],
        ["classify", "xray", "a.png", "--threshold", "1.5"],
        ["classify", "mri", "a.png", "--threshold", "0.5"],
        ["classify", "xray", "a.png", "--timeout", "0"],
        ["classify", "xray", "a.png", "--url", "http://localhost:8000"],
        ["classify", "ct", "a.png"],
        ["classify"],
        ["status", "--url", "gpu-box"],
        ["bench", "ct"],
        ["bench", "xray", "no-such-file.png"],
        ["bench", "xray", "--callers", "0"],
        ["phantom", "xray", "-o", "film.unknown"],
        ["phantom", "xray", "-o", "no/such/folder/film.png"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("command", ["classify", "explain", "phantom"])
def test_whoever_leaves_out_the_task_is_told_how_to_name_it(command: str) -> None:
    done = run(command, "film.png")
    assert done.exit_code == 2
    told = " ".join(done.stderr.replace("│", " ").split())
    assert "say xray (chest X-ray) or mri (brain MRI slice) first" in told
    assert f"{command} xray FILE" in told


def test_certificates_that_cannot_be_read_are_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSESCAN_CA_CERTIFICATE", "nowhere.pem")
    done = run("status", url=DEAD)
    assert done.exit_code == 2
    assert "nowhere.pem cannot be read" in done.stderr


def test_the_commands_are_listed_as_they_are_needed() -> None:
    names = ["classify", "explain", "status", "bench", "phantom"]
    listed = [line.split()[1] for line in run("--help").stdout.splitlines() if line.startswith("│ ")]
    assert [name for name in listed if name in names] == names


def test_a_folder_without_pictures_is_wrong_usage(tmp_path: Path) -> None:
    done = run("classify", "xray", tmp_path)
    assert done.exit_code == 2
    assert "no pictures in the folder" in done.stderr


def test_status_lists_the_models(fake: FakeTriton) -> None:
    fake.add_model("xray_densenet121", "1", "READY")
    fake.add_model("mri_densenet121", "", "UNAVAILABLE", "no file [model.xml]")
    done = run("status", url=fake.url)
    assert done.exit_code == 0
    for part in (f"triton 2.99.0 at {fake.url} is ready", "xray_densenet121", "not ready no file [model.xml]"):
        assert part in done.stdout


def test_status_as_json(fake: FakeTriton) -> None:
    fake.add_model("xray_densenet121", "1", "READY")
    record = json.loads(run("status", "--json", url=fake.url).stdout)
    assert record["ready"] is True
    assert record["models"] == [{"name": "xray_densenet121", "version": "1", "ready": True, "reason": ""}]


def test_status_of_a_server_that_is_absent_or_not_ready_is_exit_code_3(fake: FakeTriton) -> None:
    fake.ready = False
    assert run("status", url=fake.url).exit_code == 3
    done = run("status", url=DEAD)
    assert done.exit_code == 3
    assert "no server available" in done.stderr


def test_a_phantom_without_a_suffix_is_refused_with_one_that_works(tmp_path: Path) -> None:
    done = run("phantom", "xray", "-o", tmp_path / "film")
    assert done.exit_code == 2
    assert "film.png" in "".join(done.stderr.split()).replace("│", "")


@pytest.mark.parametrize("task", [XRAY, MRI])
def test_a_phantom_is_saved_and_can_be_classified(fake: FakeTriton, tmp_path: Path, task: Any) -> None:
    path = tmp_path / "phantom.png"
    done = run("phantom", task.name, "-o", path, "--size", "256", "--seed", "2")
    assert done.exit_code == 0
    assert "synthetic" in done.stdout
    with Image.open(path) as image:
        assert image.size == (256, 256)
    assert run("classify", task.name, path, url=fake.url).exit_code == 0


@pytest.mark.parametrize("command", [[], ["classify", "xray"], ["classify", "mri"]])
def test_help_teaches_by_example(command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.exit_code == 0
    assert f"densescan classify {command[-1] if command else 'xray'}" in done.stdout


def test_help_explains_the_exit_codes() -> None:
    assert "3 the server could not answer" in " ".join(run("classify", "xray", "--help").stdout.split())


def test_the_version_is_that_of_the_package() -> None:
    from densescan import __version__

    assert run("--version").stdout == f"densescan {__version__}\n"


def test_without_typer_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "typer" else object())
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "The command line needs typer: pip install 'densescan[cli]'\n"


def test_the_module_runs_as_the_command(fake: FakeTriton, film_path: Path) -> None:
    fake.on_infer = lambda request, context: answer([0.9, 0.1])
    done = subprocess.run(
        [sys.executable, "-m", "densescan", "classify", "xray", str(film_path), "--json"],
        env={**os.environ, "DENSESCAN_URL": fake.url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "NORMAL"
