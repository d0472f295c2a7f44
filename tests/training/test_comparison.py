"""The ablation table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from densescan.tasks import MRI, XRAY, Task
from training import comparison, comparison_table, metrics, pages
from training.manifest import Entry
from training.predictions import Predictions
from training.research_cli import app

RNG = np.random.default_rng(0)
STEMS = ("person{n}_bacteria_1", "person{n}_virus_1", "IM-{n:04d}-0001", "NORMAL2-IM-{n:04d}-0001")
FAMILIES = ("bacteria", "virus", "IM", "NORMAL2-IM")


def answers(spread: float, adults: int = 20, shift: float = 0.0) -> Predictions:
    """Probabilities as far from the truth as `spread`, on the same films each time."""
    entries, classes, families = [], [], []
    for stem, family in zip(STEMS, FAMILIES, strict=True):
        for number in range(25):
            ill = int(family in ("bacteria", "virus"))
            name = stem.format(n=number)
            entries.append(Entry(f"x/{name}.jpeg", XRAY.labels[ill], name, "", ""))
            classes.append(ill)
            families.append(family)
    for number in range(adults):
        entries.append(Entry(f"x/nih_{number:08d}_001.jpeg", XRAY.labels[number % 2], f"nih_{number}", "", ""))
        classes.append(number % 2)
        families.append("adult")
    wrong = np.random.default_rng(7).random(len(classes)) - 0.5
    score = np.clip(np.array(classes) * 0.5 + 0.25 + spread * wrong + shift, 0, 1)
    return Predictions(
        tuple(entries),
        np.array(classes),
        tuple(families),
        np.stack([1 - score, score], axis=1).astype(np.float32),
        np.array([spread / 4 if family != "adult" else np.nan for family in families]),
    )


def write_report(folder: Path, network: str, predictions: Predictions, task: Task = XRAY, fold: str = "val") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps({"task": task.name, "fold": fold, "network": network}))
    predictions.write(folder / "predictions.csv", task)
    return folder


def test_each_figure_is_the_evaluation_s_own() -> None:
    worse = answers(1.4)
    rows = [comparison.Measured("a", XRAY, "val", answers(0.8)), comparison.Measured("b", XRAY, "val", worse)]
    compared = comparison.compare(rows, resamples=100)
    values = {name: cell["value"] for name, cell in compared["rows"][1]["figures"].items()}
    figures = metrics.evaluate(XRAY, worse.classes, worse.probabilities, worse.entries, resamples=0)
    assert values == {
        "auroc": pytest.approx(figures["auroc"]),
        "accuracy": pytest.approx(figures["accuracy"]),
        "worst_family": pytest.approx(figures["worst_family"]["auroc"]),
        "mean_error": pytest.approx(0.35),
        "other_hospital": pytest.approx(figures["other_domains"]["adult"]["auroc"]),
        "ece": pytest.approx(figures["ece"]),
    }


def test_differences_are_to_the_first_row_and_paired() -> None:
    rows = [comparison.Measured(name, XRAY, "val", answers(spread)) for name, spread in (("a", 1.4), ("b", 1.2))]
    first, second = comparison.compare(rows, resamples=300)["rows"]
    assert "difference" not in first["figures"]["auroc"]
    cell = second["figures"]["auroc"]
    assert cell["difference"] == pytest.approx(cell["value"] - first["figures"]["auroc"]["value"])
    low, high = cell["difference_interval_95"]
    assert low <= cell["difference"] <= high
    alone = cell["interval_95"]
    assert high - low < alone[1] - alone[0]


def test_on_other_images_there_is_no_difference() -> None:
    rows = [
        comparison.Measured("a", XRAY, "val", answers(1.4)),
        comparison.Measured("b", XRAY, "val", answers(1.4, adults=10)),
    ]
    second = comparison.compare(rows, resamples=20)["rows"][1]
    assert all("difference" not in cell for cell in second["figures"].values())


def test_results_of_one_network_are_one_row(tmp_path: Path) -> None:
    report = write_report(tmp_path / "a", "net-1", replace(answers(0.9), corrupted_error=None))
    folder = tmp_path / "robustness"
    folder.mkdir()
    data = {"task": "xray", "fold": "val", "networks": [{"network": "net-1"}, {"network": "net-2"}]}
    (folder / "robustness.json").write_text(json.dumps(data))
    for place in (1, 2):
        answers(0.9).write(folder / f"predictions-{place}.csv", XRAY)
    rows = comparison.load([report, folder / "robustness.json"])
    assert [row.network for row in rows] == ["net-1", "net-2"]
    assert all(row.answers.corrupted_error is not None for row in rows)


def test_two_networks_of_one_name_stay_two_rows(tmp_path: Path) -> None:
    """Two releases behind one address, or a training that was done again into the same folder."""
    spreads = {"a": 0.9, "b": 1.2}
    one, other = (write_report(tmp_path / name, "served at x:8001", answers(spreads[name])) for name in spreads)
    assert len(comparison.load([one, other])) == 2
    assert len(comparison.load([one, one])) == 1
    few = answers(0.9)
    few.probabilities[0] = few.probabilities[0, ::-1]  # near on the mean, and yet another network's
    near = write_report(tmp_path / "c", "served at x:8001", replace(few, corrupted_error=None))
    measured = write_robustness(tmp_path / "d", "served at x:8001", ["blur"])
    assert len(comparison.load([one, near])) == len(comparison.load([near, measured])) == 2


def test_on_other_images_there_is_no_mean_corruption_error(tmp_path: Path) -> None:
    measured = [
        comparison.Measured(name, XRAY, "val", answers(0.9, adults=adults), {"blur": 0.4})
        for name, adults in (("a", 20), ("b", 10))
    ]
    first, second = comparison.compare(measured, resamples=10)["rows"]
    assert "mean_corruption_error" in first["figures"]
    assert "mean_corruption_error" not in second["figures"]


def write_robustness(folder: Path, network: str, corruptions: list[str], error: float = 0.25) -> Path:
    folder.mkdir(parents=True)
    errors = {name: {"error": [error, error, 2 * error]} for name in corruptions}
    data = {"task": "xray", "fold": "val", "networks": [{"network": network, "corruptions": errors}]}
    (folder / "robustness.json").write_text(json.dumps(data))
    answers(0.9).write(folder / "predictions-1.csv", XRAY)
    return folder


def test_errors_under_different_corruptions_are_not_compared(tmp_path: Path) -> None:
    one, same = (write_robustness(tmp_path / name, name, ["blur", "noise"]) for name in "ab")
    other = write_robustness(tmp_path / "c", "c", ["blur"])
    evaluated = write_report(tmp_path / "d", "d", replace(answers(0.9), corrupted_error=None))
    assert len(comparison.load([one, same, evaluated])) == 3
    with pytest.raises(ValueError, match="measured by different corruptions"):
        comparison.load([one, other])


def test_the_mean_corruption_error_is_relative_to_the_first_row(tmp_path: Path) -> None:
    one = write_robustness(tmp_path / "a", "a", ["blur", "noise"], 0.2)
    other = write_robustness(tmp_path / "b", "b", ["blur", "noise"], 0.1)
    first, second = comparison.compare(comparison.load([one, other]), resamples=10)["rows"]
    assert first["figures"]["mean_corruption_error"] == {"value": 1.0}
    assert second["figures"]["mean_corruption_error"] == {"value": pytest.approx(0.5)}
    text = comparison_table.markdown(comparison.compare(comparison.load([one, other]), resamples=10))
    assert " | 0.500 | " in text


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    mri = Predictions((Entry("a", "glioma", "a", "", ""),), np.array([0]), ("",), np.full((1, 4), 0.25, np.float32))
    one = write_report(tmp_path / "xray", "a", answers(0.5))
    other = write_report(tmp_path / "mri", "b", mri, MRI)
    with pytest.raises(ValueError, match=r"different tasks or folds \(mri val, xray val\)"):
        comparison.load([one, other])
    (one / "predictions.csv").unlink()
    with pytest.raises(ValueError, match=r"predictions.csv is missing: keep it beside report.json"):
        comparison.load([one])
    with pytest.raises(ValueError, match=r"holds no report.json or robustness.json"):
        comparison.load([tmp_path])
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(ValueError, match="is no result of evaluate or robustness"):
        comparison.load([tmp_path])
    with pytest.raises(ValueError, match="1 names for 2 networks"):
        comparison.compare([comparison.Measured(name, XRAY, "val", answers(1)) for name in "ab"], ["x"])


def compared() -> dict[str, object]:
    rows = [comparison.Measured(name, XRAY, "val", answers(spread)) for name, spread in (("a", 1.9), ("b", 1.0))]
    return comparison.compare(rows, ["plain", "better"], resamples=200)


def test_the_table_marks_differences_whose_interval_leaves_out_zero() -> None:
    text = comparison_table.markdown(compared())
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 4
    assert all(line.count(" | ") == len(comparison.COLUMNS) - 1 for line in lines)
    assert "mean corruption error" not in lines[0], "of these nothing is known of single corruptions"
    assert lines[2].startswith("| plain | 0.")
    assert "<br>" not in lines[2]
    assert "<br>**+0." in lines[3]
    same = [comparison.Measured(name, XRAY, "val", answers(1.9)) for name in "ab"]
    text = comparison_table.markdown(comparison.compare(same, resamples=50))
    assert text.count("<br>+0.000 (+0.000 to +0.000)") == 6
    assert "**" not in text


def test_by_one_family_the_columns_are_its_pairs_and_the_figures_those_of_the_pairs() -> None:
    rows = [comparison.Measured(name, XRAY, "val", answers(spread)) for name, spread in (("a", 1.8), ("b", 1.0))]
    result = comparison.compare(rows, resamples=50, family="virus")
    wanted = ["virus against IM", "virus against NORMAL2-IM", "virus against adult"]
    assert list(result["columns"]) == list(result["rows"][1]["figures"]) == wanted
    of_b = rows[1].answers
    chosen = np.array([family in ("virus", "IM") for family in of_b.families])
    own = roc_auc_score(of_b.classes[chosen], of_b.probabilities[chosen, 1])
    cell = result["rows"][1]["figures"]["virus against IM"]
    assert cell["value"] == pytest.approx(own)
    first = result["rows"][0]["figures"]["virus against IM"]["value"]
    assert cell["difference"] == pytest.approx(own - first)
    assert cell["difference"] > 0
    assert "| AUROC, virus against IM |" in comparison_table.markdown(result)
    with pytest.raises(ValueError, match=r"no pairs with the family 'bacterium' in a: there are IM, NORMAL2-IM, adult"):
        comparison.compare(rows, resamples=0, family="bacterium")


def test_a_figure_that_a_network_has_not_got_is_not_measured() -> None:
    bare = answers(1.0)
    rows = [
        comparison.Measured("a", XRAY, "val", answers(1.0)),
        comparison.Measured(
            "b", XRAY, "val", Predictions(bare.entries, bare.classes, bare.families, bare.probabilities)
        ),
    ]
    text = comparison_table.markdown(comparison.compare(rows, resamples=20))
    assert text.count("not measured") == 1


def test_the_table_is_recorded_between_its_marks_and_nothing_else_changes(tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    begin, end = pages.marks("ablation xray")
    other = pages.marks("ablation mri")
    text = f"# Before\n{begin}\nold\n{end}\nbetween\n{other[0]}\n{other[1]}\nafter\n"
    document.write_text(text)
    result = compared()
    for _ in range(2):  # again gives the same
        comparison_table.record(document, result)
        wanted = (
            f"# Before\n{begin}\n{comparison_table.markdown(result)}{end}\nbetween\n{other[0]}\n{other[1]}\nafter\n"
        )
        assert document.read_text() == wanted


@pytest.mark.parametrize("text", ["", "{end}\n{begin}\n", "{begin}\n{end}\n{begin}\n{end}\n"])
def test_a_document_without_its_place_is_left_alone(text: str, tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    begin, end = pages.marks("ablation xray")
    document.write_text(text.format(begin=begin, end=end))
    with pytest.raises(ValueError, match="add the lines <!-- ablation xray: begin -->"):
        comparison_table.record(document, compared())
    assert document.read_text() == text.format(begin=begin, end=end)


def test_the_command_prints_and_records(tmp_path: Path) -> None:
    folders = [write_report(tmp_path / name, name, answers(spread)) for name, spread in (("a", 1.8), ("b", 1.0))]
    document = tmp_path / "doc.md"
    document.write_text("\n".join(pages.marks("ablation xray")) + "\n")
    words = ["compare", *folders, "--name", "scratch", "--name", "release", "--record", document]
    for more, wanted in (([], "worst-family AUROC"), (["--markdown"], "| scratch | 0."), (["--json"], '"difference"')):
        result = CliRunner().invoke(app, list(map(str, [*words, *more])))
        assert result.exit_code == 0, result.output
        assert wanted in result.output
    assert "| release | " in document.read_text()


def test_results_of_two_folds_are_not_compared(tmp_path: Path) -> None:
    one = write_report(tmp_path / "a", "a", answers(0.5))
    other = write_report(tmp_path / "b", "b", answers(0.5), fold="test")
    with pytest.raises(ValueError, match=r"different tasks or folds \(xray test, xray val\)"):
        comparison.load([one, other])


def test_a_folder_of_two_results_does_not_say_which_is_meant(tmp_path: Path) -> None:
    folder = write_robustness(tmp_path / "a", "a", ["blur"])
    write_report(folder, "a", answers(0.9))
    with pytest.raises(ValueError, match=r"holds report\.json and robustness\.json"):
        comparison.load([folder])
    assert len(comparison.load([folder / "report.json", folder / "robustness.json"])) == 1


def test_by_one_family_nothing_else_is_compared() -> None:
    rows = [comparison.Measured(name, XRAY, "val", answers(1.0), {"blur": 0.4}) for name in "ab"]
    result = comparison.compare(rows, resamples=10, family="virus")
    for row in result["rows"]:
        assert list(row["figures"]) == list(result["columns"])


def test_where_all_films_are_another_hospitals_the_figures_are_of_them() -> None:
    whole = answers(1.0, adults=40)
    adult = np.array([family == "adult" for family in whole.families])
    only = Predictions(
        tuple(entry for entry, chosen in zip(whole.entries, adult, strict=True) if chosen),
        whole.classes[adult],
        ("adult",) * 40,
        whole.probabilities[adult],
    )
    (row,) = comparison.compare([comparison.Measured("a", XRAY, "val", only)], resamples=20)["rows"]
    assert row["figures"]["auroc"]["value"] == pytest.approx(roc_auc_score(only.classes, only.probabilities[:, 1]))
    assert "other_hospital" not in row["figures"]


def test_without_films_of_both_classes_another_hospitals_have_no_auroc() -> None:
    whole = answers(1.0)
    healthy = replace(whole, classes=np.where([family == "adult" for family in whole.families], 0, whole.classes))
    (row,) = comparison.compare([comparison.Measured("a", XRAY, "val", healthy)], resamples=20)["rows"]
    assert "auroc" in row["figures"]
    assert "other_hospital" not in row["figures"]
