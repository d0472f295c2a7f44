"""The commands, one after the other, as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import cli

from .conftest import save_noise

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(1800)


def run(
    *words: object, folder: Path, check: bool = True, program: Sequence[str] = ("-m", "training")
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}", "COLUMNS": "200"}
    environment.pop("DENSESCAN_DATA", None)
    done = subprocess.run(
        [sys.executable, *program, *map(str, words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def seed_of(label: str, number: int) -> int:
    return number + (100 if label == "PNEUMONIA" else 0)


def test_help_teaches_the_order_of_the_steps(tmp_path: Path) -> None:
    text = run("--help", folder=tmp_path).stdout
    assert [text.index(f"python -m training {step}") for step in ("split", "fit", "evaluate", "export")] == sorted(
        text.index(f"python -m training {step}") for step in ("split", "fit", "evaluate", "export")
    )


@pytest.mark.parametrize("step", ["split", "fit", "evaluate", "export"])
def test_each_step_explains_its_options(step: str, tmp_path: Path) -> None:
    text = run(step, "--help", folder=tmp_path).stdout
    assert "--task" in text
    assert "--data" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("split", "--task", "xray"), "no images for the chest X-ray task"),
        (("split", "--task", "xray", "--data", "."), "no images of NORMAL, PNEUMONIA in"),
        (("split", "--task", "xray", "--data", ".", "--ratios", "80/20"), "expected three percentages"),
        (("fit", "--task", "xray", "--data", "."), "make one with: python -m training split"),
        (("evaluate", "--task", "mri"), "make one with: python -m training fit --task mri"),
        (("export", "--task", "mri"), "make one with: python -m training fit --task mri"),
        (("evaluate", "--task", "mri", "--data", ".", "--model", "a.onnx", "--manifest", "."), "Is a directory"),
    ],
)
def test_what_is_missing_is_one_line_that_says_what_to_do(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = run(*words, folder=tmp_path, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_after_ctrl_c_it_says_what_becomes_of_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "set_up_logging", lambda: None)
    monkeypatch.setattr(cli.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(cli.commands, "export", interrupted)
    monkeypatch.setattr(sys, "argv", ["training", "export", "--task", "xray"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 130
    assert "nothing is half-written, and fit goes on from its last checkpoint" in capsys.readouterr().err


def test_an_unknown_task_is_a_usage_error(tmp_path: Path) -> None:
    done = run("split", "--task", "ct", folder=tmp_path, check=False)
    assert done.returncode == 2
    assert "'ct'" in done.stderr


def test_split_prints_its_table_and_writes_the_manifest(tmp_path: Path) -> None:
    for number in range(10):
        save_noise(tmp_path / f"films/NORMAL/IM-{number:04d}-0001.png", number)
        save_noise(tmp_path / f"films/PNEUMONIA/person{number}_virus_1.png", 100 + number)
    save_noise(tmp_path / "films/NORMAL/IM-0099-0001.png", 0)
    (tmp_path / "films/NORMAL/broken.png").write_bytes(b"")
    done = run("split", "--task", "xray", "--data", "films", folder=tmp_path)
    assert "kept in their first copy's fold and not used: 1" in done.stdout
    assert "broken.png: the file is empty" in done.stdout
    rows = (tmp_path / "runs/xray/manifest.csv").read_text().splitlines()
    assert len(rows) == 1 + 21
    assert "next:    python -m training fit --task xray --data films" in done.stdout
    assert "audit:   runs/xray/audit.html" in done.stdout
    assert (tmp_path / "runs/xray/audit.html").is_file()


def test_names_with_brackets_and_of_another_encoding_are_split_and_shown_as_they_are(tmp_path: Path) -> None:
    data = tmp_path / "films [x]"
    for number in range(4):
        save_noise(data / f"NORMAL/IM-{number:04d}-0001.png", number)
        save_noise(data / f"PNEUMONIA/person{number}_virus_1.png", 100 + number)
    os.rename(data / "NORMAL/IM-0000-0001.png", os.fsencode(data / "NORMAL") + b"/R\xf6ntgen.png")
    (data / "NORMAL/broken [red].png").touch()
    done = run("split", "--task", "xray", "--data", data, "--out", "[bold]/cut.csv", folder=tmp_path)
    assert f"written: {Path('[bold]/cut.csv')}" in done.stdout
    assert "broken [red].png: the file is empty" in done.stdout
    assert f"fit --task xray --data '{data}' --manifest '[bold]/cut.csv'" in done.stdout
    assert b"NORMAL/R\xf6ntgen.png,NORMAL," in (tmp_path / "[bold]/cut.csv").read_bytes()


def test_split_says_what_is_nearly_equal_and_what_leaks_and_writes_no_page_if_told(tmp_path: Path) -> None:
    for label in ("NORMAL", "PNEUMONIA"):
        for number in range(8):
            save_noise(tmp_path / f"films/train/{label}/{label}{number}.png", seed_of(label, number), side=64)
    turned = np.asarray(Image.open(tmp_path / "films/train/NORMAL/NORMAL3.png"))[:, ::-1]
    (tmp_path / "films/val/NORMAL").mkdir(parents=True)
    Image.fromarray(turned).save(tmp_path / "films/val/NORMAL/turned.png")
    words = ("split", "--task", "xray", "--data", "films", "--out", "cut/first.csv")
    done = run(*words, "--no-audit", folder=tmp_path)
    assert "nearly equal, kept in one fold: 1 pairs of 2 pictures, 1 of them mirrored, 0 across classes" in done.stdout
    assert "the folder val: 1 of 1 pictures of NORMAL stand in train as well (0 equal, 1 nearly)" in done.stdout
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["first.csv"]
    assert "next:    python -m training fit --task xray --data films --manifest cut/first.csv" in done.stdout
    folds = {row.split(",")[0]: row.split(",")[3] for row in (tmp_path / "cut/first.csv").read_text().splitlines()}
    assert folds["val/NORMAL/turned.png"] == folds["train/NORMAL/NORMAL3.png"]


def test_split_after_another_keeps_what_was_trained_on_in_train(tmp_path: Path) -> None:
    for label in ("NORMAL", "PNEUMONIA"):
        for number in range(8):
            file = save_noise(tmp_path / f"films/{label}/{label}{number}.png", seed_of(label, number), side=64)
            Image.fromarray(np.asarray(Image.open(file))[:, ::-1]).save(file.with_name(f"{label}{number}-turned.png"))
    words = ("split", "--task", "xray", "--data", "films", "--no-audit")
    run(*words, "--near", "1", "--out", "a.csv", folder=tmp_path)
    run(*words, "--after", "a.csv", "--out", "b.csv", folder=tmp_path)
    first, later = (
        {row.split(",")[0]: row.split(",")[3] for row in (tmp_path / name).read_text().splitlines()}
        for name in ("a.csv", "b.csv")
    )
    assert all(later[path] == "train" for path, fold in first.items() if fold == "train")
    assert later != first
    for path, fold in later.items():
        assert later.get(path.replace(".png", "-turned.png"), fold) == fold


def test_split_after_a_manifest_of_other_pictures_is_refused(tmp_path: Path) -> None:
    """Or all of its training pictures would be cut anew without a word."""
    for folder, seed in (("films", 0), ("others", 50)):
        for label in ("NORMAL", "PNEUMONIA"):
            for number in range(4):
                save_noise(tmp_path / f"{folder}/{label}/{number}.png", seed_of(label, seed + number))
    run("split", "--task", "xray", "--data", "films", "--no-audit", "--out", "a.csv", folder=tmp_path)
    words = ("split", "--task", "xray", "--data", "others", "--no-audit", "--after", "a.csv", "--out", "b.csv")
    done = run(*words, folder=tmp_path, check=False)
    assert done.returncode == 1
    assert "no picture of a.csv stands below others" in done.stderr
    assert not (tmp_path / "b.csv").exists()


def test_split_writes_nothing_where_no_picture_of_a_class_can_be_read(tmp_path: Path) -> None:
    save_noise(tmp_path / "films/NORMAL/a.png", 0)
    (tmp_path / "films/PNEUMONIA").mkdir()
    (tmp_path / "films/PNEUMONIA/broken.png").write_bytes(b"")
    done = run("split", "--task", "xray", "--data", "films", folder=tmp_path, check=False)
    assert done.returncode == 1
    assert "no picture of PNEUMONIA can be read; of PNEUMONIA/broken.png: the file is empty" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_set_that_is_tied_into_one_group_is_warned_of(tmp_path: Path) -> None:
    for number in range(30):
        save_noise(tmp_path / f"films/NORMAL/p1_{number}.png", number)
        save_noise(tmp_path / f"films/PNEUMONIA/q{number}_1.png", 100 + number)
    words = ("split", "--task", "xray", "--data", "films", "--no-audit", "--group", r"^[pq]\d+")
    assert "30 of 60 pictures are one group (p1 and what is tied to it)" in run(*words, folder=tmp_path).stdout


# `python -m training` with a recipe of one phase: TensorFlow takes most of a minute to compile DenseNet-121 for each.
_ONE_PHASE = """
import dataclasses, runpy
from training import recipes

recipes.RECIPES["smoke"] = dataclasses.replace(recipes.SMOKE, phases=recipes.SMOKE.phases[:1])
runpy.run_module("training", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_from_pictures_to_a_report(phantom_sets: Path, tmp_path: Path) -> None:
    """The one training of the whole network; those in other files are of a shallow one, in several phases."""
    data = phantom_sets / "brain_mri"
    run("split", "--task", "mri", "--data", data, "--ratios", "50/25/25", folder=tmp_path)
    fit = ("fit", "--task", "mri", "--data", data, "--recipe", "smoke")
    fitted = run(*fit, folder=tmp_path, program=("-c", _ONE_PHASE))
    assert "runs/mri/smoke/best.keras" in fitted.stdout
    again = run(*fit, folder=tmp_path, program=("-c", _ONE_PHASE))
    assert "is finished" in again.stdout
    evaluated = run("evaluate", "--task", "mri", "--data", data, "--fold", "val", "--json", folder=tmp_path)
    figures = json.loads(evaluated.stdout)
    assert figures["images"] == 12
    assert sum(map(sum, figures["confusion_matrix"])) == 12
    report = tmp_path / "runs/mri/smoke/evaluation/val-keras"
    assert {path.name for path in report.iterdir()} >= {
        "report.html",
        "report.json",
        "confusion_matrix.png",
        "roc.png",
        "training_curves.png",
    }
    history = (tmp_path / "runs/mri/smoke/history.csv").read_text().splitlines()
    assert len(history) == 1 + 1
