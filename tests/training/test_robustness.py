"""Figures of networks on corrupted pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from densescan.preprocessing import preprocess_grey
from densescan.tasks import MRI, XRAY
from training import layouts, metrics, predictions, robustness, robustness_page, robustness_run
from training.corruptions import CORRUPTIONS, corrupt
from training.manifest import Entry, write_manifest
from training.research_cli import app
from training.robustness import Tried
from training.runs import Run

from .gradcam_networks import noise, tiny_classifier

NAMES = ["blur", "noise"]
CLASSES = np.array([0, 0, 1, 1])
GROUPS = ["a", "a", "b", "c"]


def tried(network: str, wrong: list[list[list[int]]], wrong_clean: list[int]) -> Tried:
    """A network that decides wrongly where there is a one."""
    flags = np.array(wrong)
    decided = np.where(flags == 1, 1 - CLASSES, CLASSES)
    clean = np.where(np.array(wrong_clean) == 1, 1 - CLASSES, CLASSES)
    return Tried(network, np.eye(2, dtype=np.float32)[clean], np.eye(2, dtype=np.float32)[decided])


BASE = tried("base", [[[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]], [0] * 4)
BETTER = tried(
    "better", [[[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]], [0, 0, 0, 1]
)


def test_errors_are_those_counted_by_hand() -> None:
    base, better = robustness.figures(XRAY, [BASE, BETTER], CLASSES, GROUPS, NAMES, resamples=0)["networks"]
    assert base["corruptions"]["blur"]["error"] == [0.25, 0.5, 0.75]
    assert base["corruptions"]["blur"]["balanced_accuracy"] == [0.75, 0.5, 0.25]
    assert base["corruptions"]["noise"]["auroc"] == [1.0, 0.75, 0.75]
    assert base["mean_error"] == pytest.approx(2.0 / 6)
    assert better["mean_error"] == pytest.approx(1.0 / 6)
    assert better["clean_error"] == 0.25
    assert better["against_first"]["mean_error"]["difference"] == pytest.approx(-1 / 6)
    assert better["against_first"]["corruptions"]["blur"]["difference"] == pytest.approx(-0.25)


def test_the_mean_corruption_error_is_hendrycks_and_dietterich_s() -> None:
    base, better = robustness.figures(XRAY, [BASE, BETTER], CLASSES, GROUPS, NAMES, resamples=0)["networks"]
    assert base["mean_corruption_error"] == base["relative_mean_corruption_error"] == 1
    assert better["mean_corruption_error"] == pytest.approx((0.75 / 1.5 + 0.25 / 0.5) / 2)
    # Of the better one a quarter of the errors were there before.
    assert better["relative_mean_corruption_error"] == pytest.approx(((0.75 - 0.75) / 1.5 + (0.25 - 0.75) / 0.5) / 2)


def test_a_corruption_that_costs_the_baseline_nothing_does_not_count() -> None:
    spared = tried("spared", [[[0] * 4] * 3, [[1, 0, 0, 0]] * 3], [0] * 4)
    rows = robustness.figures(XRAY, [spared, BASE], CLASSES, GROUPS, NAMES, resamples=0)["networks"]
    assert rows[1]["mean_corruption_error"] == pytest.approx((0.5 / 0.75) / 1)


def test_differences_are_paired_by_patient() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 2, 200)
    groups = [str(place // 2) for place in range(200)]
    hard = rng.random(200) < 0.3
    spoilt = np.where(hard, 1 - classes, classes)
    # Wrong on the same pictures, and on four more.
    more = spoilt.copy()
    more[np.flatnonzero(~hard)[:4]] = 1 - more[np.flatnonzero(~hard)[:4]]
    eye = np.eye(2, dtype=np.float32)
    networks = [
        Tried(name, eye[classes], np.tile(eye[decided], (1, 3, 1, 1))) for name, decided in (("a", spoilt), ("b", more))
    ]
    first, second = robustness.figures(XRAY, networks, classes, groups, ["blur"], resamples=400)["networks"]
    low, high = second["against_first"]["mean_error"]["interval_95"]
    assert 0 <= low < 0.02 < high < 0.06
    apart = first["intervals_95"]["mean_error"]
    assert apart[0] < first["mean_error"] < apart[1]
    assert apart[1] - apart[0] > 2 * (high - low)


def test_every_network_is_asked_about_every_form_of_every_picture() -> None:
    grey = noise(3)
    seen: dict[str, list[np.ndarray]] = {"a": [], "b": []}

    def network(name: str) -> robustness.Ask:
        def ask(pictures: np.ndarray) -> np.ndarray:
            seen[name].append(pictures)
            level = pictures.mean(axis=(1, 2)) / 255
            return np.stack([level, 1 - level], axis=1).astype(np.float32)

        return ask

    steps: list[None] = []
    answers = robustness.attempt(
        {name: network(name) for name in seen}, grey, ["darker", "blur"], lambda: steps.append(None)
    )
    assert len(steps) == 2 * (1 + 2 * 3)
    for name in seen:
        assert np.array_equal(seen[name][0], grey)
        assert np.array_equal(seen[name][3], corrupt(grey, "darker", 2))
        assert np.array_equal(seen[name][4], corrupt(grey, "blur", 0))
    assert [one.network for one in answers] == ["a", "b"]
    assert answers[0].corrupted.shape == (2, 3, 3, 2)
    assert answers[0].corrupted[0, 2, :, 0] == pytest.approx(seen["a"][3].mean(axis=(1, 2)) / 255)


def test_of_several_classes_the_area_is_the_mean_of_one_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(40) % 4
    answers = rng.dirichlet(np.ones(4), (1, 3, 40)).astype(np.float32)
    (row,) = robustness.figures(MRI, [Tried("n", answers[0, 0], answers)], classes, ["g"] * 40, ["blur"], 0)["networks"]
    from training.metrics import auroc

    assert row["corruptions"]["blur"]["auroc"] == pytest.approx([auroc(MRI, classes, answers[0, s]) for s in range(3)])


@pytest.fixture
def two_runs(phantom_sets: Path, tmp_path: Path) -> tuple[Path, list[Path]]:
    data = layouts.find_data(XRAY, phantom_sets / "chest_xray")
    images = layouts.find_images(XRAY, data)
    entries = [Entry(image.path, image.label, image.path, "val", "") for image in images]
    runs = []
    for seed in range(2):
        run = Run(tmp_path / f"runs/xray/tiny{seed}")
        run.save_state()
        tiny_classifier(XRAY, seed=seed).save(run.best_model)
        write_manifest(run.manifest, entries)
        runs.append(run.folder)
    return data, runs


def test_the_command_compares_trainings_and_writes_a_page(two_runs: tuple[Path, list[Path]], tmp_path: Path) -> None:
    data, runs = two_runs
    words = ["robustness", "--task", "xray", "--data", data, "--run", runs[0], "--run", runs[1], "--images", 16]
    words += ["--only", "noise", "--only", "low_contrast", "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "out/robustness.json").read_text())
    assert figures["images"] == 16
    assert list(figures["levels"]) == ["low_contrast", "noise"], "in the order of the suite"
    assert [row["network"] for row in figures["networks"]] == [f"{run}/best.keras" for run in runs]
    assert figures["networks"][0]["clean"]["images"] == 16
    for name in ("accuracy", "auroc", "differences", "corruptions"):
        with Image.open(tmp_path / f"out/{name}.png") as picture:
            assert np.ptp(np.asarray(picture.convert("L"))) > 100
    page = (tmp_path / "out/robustness.html").read_text()
    assert page.count("data:image/png;base64") == 4
    assert "Hendrycks and Dietterich" in page
    written = predictions.read(tmp_path / "out/predictions-2.csv", XRAY.labels)
    assert written.corrupted_error is not None
    assert written.corrupted_error.mean() == pytest.approx(figures["networks"][1]["mean_error"], abs=1e-5)
    head, rows = robustness_page.summary(figures)
    for row in rows:
        assert len(row) == len(head)
        for cell in row:
            assert cell in result.output.replace("\n", "")


def test_interrupted_it_leaves_no_figures_beside_another_networks_answers(
    two_runs: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, runs = two_runs

    def measure(run: Path) -> None:
        robustness_run.run(
            XRAY, data, None, [run], [], [], "val", ["noise"], 8, tmp_path / "out", as_json=True, as_markdown=False
        )

    measure(runs[0])
    assert (tmp_path / "out/robustness.json").is_file()
    monkeypatch.setattr(metrics, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(runs[1])
    assert not (tmp_path / "out/robustness.json").exists()


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_what_is_asked_for_wrongly_is_said(two_runs: tuple[Path, list[Path]], tmp_path: Path) -> None:
    data, runs = two_runs
    with pytest.raises(ValueError, match="no corruption fog: choose among low_contrast"):
        robustness_run.run(
            XRAY, data, None, runs, [], [], "val", ["fog"], 0, tmp_path, as_json=False, as_markdown=False
        )
    with pytest.raises(ValueError, match="named twice"):
        robustness_run.open_networks(XRAY, [runs[0], runs[0]], [], [])


def test_a_sample_is_the_same_each_time_and_not_the_first() -> None:
    entries = [Entry(str(number), "", "", "val", "") for number in range(100)]
    drawn = robustness_run.sample(entries, 10)
    assert drawn == robustness_run.sample(entries, 10)
    assert len(set(drawn)) == 10
    assert drawn != entries[:10]
    assert robustness_run.sample(entries, 0) == robustness_run.sample(entries, 1000) == entries


def test_a_server_gets_the_very_pixels() -> None:
    """`--url` sends arrays: the SDK's preprocessing must leave them as they are."""
    for name in CORRUPTIONS:
        changed = corrupt(noise(1), name, 1)
        assert np.array_equal(preprocess_grey(changed[0]), changed[0])


def test_what_rounding_leaves_of_equal_shares_is_no_denominator() -> None:
    part, dust = np.array([0.2, 0.1]), np.array([0.1, 0.1 + 0.2 - 0.3])
    assert dust[1] > 0
    assert robustness.mean_ratio(part, dust) == pytest.approx(2)


def test_a_resample_s_error_is_a_mean_over_the_pictures_that_it_drew() -> None:
    """Patients have unlike numbers of pictures, so that a resample seldom has as many as there are."""
    wrong = np.array([[[True, False, False, True]]])
    weights = np.array([[1.0, 1, 1, 1], [3, 3, 0, 0], [0, 1, 0, 0]])
    assert robustness._means(wrong, weights)[0, 0].tolist() == [0.5, 0.5, 0]
