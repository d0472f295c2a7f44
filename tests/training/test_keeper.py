"""Which epoch's weights a phase hands on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from training import fitting
from training.recipes import RELEASE, SCRATCH, Phase
from training.runs import Run

LOSSES = (0.9, 0.3, 0.5)


class Weights:
    """Stands for a network: what it saves tells the epoch."""

    def __init__(self) -> None:
        self.epoch = 0
        self.optimizer = SimpleNamespace(learning_rate=0.1)

    def save(self, path: Path) -> None:
        Path(path).write_text(str(self.epoch))


def kept(folder: Path, phase: Phase, losses: tuple[float, ...] = LOSSES) -> tuple[str, Run]:
    run = Run(folder)
    run.checkpoints.mkdir(parents=True)
    keeper, weights = fitting._Keeper(run, phase), Weights()
    keeper.set_model(weights)
    for epoch, loss in enumerate(losses):
        weights.epoch = epoch + 1
        keeper.on_epoch_end(epoch, {"loss": 1.0, "accuracy": 0.5, "val_loss": loss, "val_accuracy": 0.5})
    return run.phase_best(phase.name).read_text(), run


@pytest.mark.parametrize(("keep", "epoch"), [("best", "2"), ("last", "3")])
def test_a_phase_hands_on_the_epoch_that_its_recipe_names(tmp_path: Path, keep: str, epoch: str) -> None:
    handed_on, run = kept(tmp_path, replace(Phase("only", 3, 1e-3), keep=keep))
    assert handed_on == epoch
    assert (run.state.best, run.state.waited, run.state.epoch) == (0.3, 1, 3)


def test_recipes_say_which() -> None:
    assert {phase.keep for phase in SCRATCH.phases} == {"best"}
    assert {phase.keep for phase in RELEASE.phases} == {"last"}
