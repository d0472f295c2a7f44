"""docs/TRAINING.md: its commands exist with these options, its table is complete, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from densescan.tasks import TASKS
from training import pages, recipes
from training.corruptions import CORRUPTIONS
from training.research_cli import app

from .conftest import save_noise

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "TRAINING.md").read_text(encoding="utf-8")
# A backslash ends a line whose command goes on in the next one.
COMMANDS = re.findall(r"^python -m training (.*)$", PAGE.replace("\\\n", " "), re.M)


def test_the_page_has_commands() -> None:
    names = {line.split()[0] for line in COMMANDS}
    assert names == {"split", "fit", "evaluate", "export", "operating-point", "holdout", "robustness", "compare"}


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_and_its_options_exist(line: str) -> None:
    name, *words = shlex.split(line)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    command.make_context(name, words)  # raises where an option or its value is unknown


@pytest.mark.parametrize("option", sorted(set(re.findall(r"(?<![\w-])--[a-z]+", PAGE)) - {"--help"}))
def test_each_option_in_the_text_is_one_of_a_command(option: str) -> None:
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    known = {flag for command in commands for parameter in command.params for flag in parameter.opts}
    assert option in known


def test_the_recipes_and_fields_that_it_names_exist() -> None:
    for name in re.findall(r"--recipe (\w+)", PAGE):
        assert name in recipes.RECIPES
    fields = recipes.Recipe.__dataclass_fields__
    for cell in re.findall(r"^\| [^|]+ \| ([^|]*`[^|]+) \|", PAGE.split("| lever |")[1], re.M):
        for name in re.findall(r"`([\w.]+)`", cell):
            first, _, second = name.partition(".")
            assert first in fields or name == "export", name
            assert not second or second in recipes.Augmentation.__dataclass_fields__, name


def test_the_number_of_corruptions_is_theirs() -> None:
    assert len(CORRUPTIONS) == 16
    assert "Sixteen corruptions" in PAGE


@pytest.mark.parametrize("place", [*(f"ablation {task}" for task in TASKS), "ingredients xray", "unseen xray"])
def test_each_table_has_its_place(place: str) -> None:
    begin, end = pages.marks(place)
    assert PAGE.count(begin) == PAGE.count(end) == 1
    assert PAGE.index(begin) < PAGE.index(end)


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    for link in links:
        assert "://" in link or (DOCS / link).exists(), link


def save_films(root: Path) -> None:
    """Noise in the layout of the chest set, bright where ill, with the names that tell families."""
    for number in range(12):
        names = {
            f"NORMAL/IM-{number:04d}-0001": 0,
            f"NORMAL/NORMAL2-IM-{number:04d}-0001": 0,
            f"PNEUMONIA/person{number}_bacteria_1": 1,
            f"PNEUMONIA/person{100 + number}_virus_1": 1,
        }
        for place, (name, ill) in enumerate(names.items()):
            path = save_noise(root / "chest_xray/train" / f"{name}.png", 10 * number + place)
            pixels = np.asarray(Image.open(path)) // 2 + 100 * ill
            Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.mark.slow
@pytest.mark.usefixtures("shallow_backbone")
def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a shallow network, a small recipe, few images and corruptions; not what needs an export or many networks."""
    monkeypatch.chdir(tmp_path)
    save_films(tmp_path)
    (tmp_path / "films").mkdir()
    for label in ("NORMAL", "PNEUMONIA"):
        for number in range(20):
            save_noise(
                tmp_path / f"films/{label}/patient{number}_{label}.png", 1000 + number + 500 * (label == "NORMAL")
            )
    (tmp_path / "docs").mkdir()
    shutil.copy(DOCS / "TRAINING.md", tmp_path / "docs")
    ran = set()
    left_out = ("export", "operating-point", "model_repository", "--data DATA", "/versions", "ingredients")
    for line in (line for line in COMMANDS if not any(word in line for word in left_out)):
        words = shlex.split(line)
        if words[0] == "fit" and "--out" not in words:
            words += ["--out", "runs/xray/release"]
        words = ["smoke" if before == "--recipe" else word for before, word in zip(["", *words], words, strict=False)]
        if words[0] == "robustness":
            shutil.copytree("runs/xray/release", "runs/xray/scratch")
            words += ["--only", "blur", "--only", "noise", "--images", "8"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (words, result.output, result.exception)
        ran.add(words[0])
    assert ran == {"split", "fit", "evaluate", "holdout", "robustness", "compare"}
    for name in ("evaluation/val-keras/report.html", "training_curves.png", "best.keras", "history.csv", "run.json"):
        assert Path("runs/xray/release", name).is_file(), name
    assert Path("runs/xray/scratch/robustness/val/robustness.html").is_file()
    written = Path("docs/TRAINING.md").read_text(encoding="utf-8")
    assert "worst-family AUROC" in written or "mean error, corrupted" in written
    begin, end = pages.marks("ablation mri")
    assert written.split(begin)[1] == PAGE.split(begin)[1], "the other task's table stays"
    assert end in written
