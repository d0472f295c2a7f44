"""Train a network by a recipe: phase after phase, resumable from the newest checkpoint."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from densescan.tasks import Task, get_task

from . import accelerated, network, plots, statistics, teachers
from .batches import Batches
from .data import Fold, class_weights
from .manifest import manifest_hash
from .recipes import Augmentation, Phase, Recipe
from .runs import Run, RunError, write_aside, write_json

log = logging.getLogger(__name__)

SAVING = 0.05
"""Largest share of the time that goes into checkpoints: on a GPU an epoch takes seconds, and so does saving it. Where a
phase keeps the best epoch, a better one is saved at once and comes on top."""

NOT_DECAYED = ("bias", "gamma", "beta")
"""Variables, by the end of their names, that weight decay leaves alone."""


def start_run(
    folder: Path,
    task: Task,
    recipe: Recipe,
    weights: str,
    manifest: Path,
    taught_by: Sequence[Path] = (),
    *,
    overwrite: bool = False,
) -> Run:
    """Open a run's folder: a new one, or the same training to be resumed.

    Args:
        folder: Of the run.
        task: What to classify.
        recipe: How to train.
        weights: ``none``, ``imagenet``, or a file; its SHA-256 is recorded, and says when resuming whether it is still
            the same, wherever it stands by then.
        manifest: Is copied into the folder.
        taught_by: Networks whose answers take the labels' place; their SHA-256 is recorded, and says when resuming
            whether they are still the same.
        overwrite: Delete the run that is there.

    Raises:
        RunError: The folder holds another training, and `overwrite` was not asked for; or it was, and what the
            training needs would be deleted with the folder.
        WeightsUnavailable: There is no such file, and the training has not begun yet.
        ValueError: The recipe trains at sizes that no teacher can be asked about.
    """
    run = Run(folder)
    resumed = run.settings.is_file() and not overwrite
    if resumed:
        run.load_state()
    taught: list[dict[str, str]] = read_settings(run).get("teachers", []) if run.state.finished else []
    settings: dict[str, Any] = {
        "task": task.name,
        "recipe": recipe.to_dict(),
        "weights": weights,
        "manifest_sha256": manifest_hash(manifest),
        "teachers": teachers.record(taught_by, recipe, taught),
    }
    if resumed:
        _check_same(run, settings)
        _check_weights(run, weights)
        return run
    settings["weights_sha256"] = network.weights_hash(weights)  # before anything is deleted for nothing
    if run.settings.is_file():
        _check_outside(folder, weights, manifest, *taught_by)
        shutil.rmtree(folder)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    write_aside(run.manifest, lambda aside: shutil.copyfile(manifest, aside))
    write_json(run.settings, {**settings, "versions": versions(), "started": time.strftime("%Y-%m-%d")})
    return run


def _check_outside(folder: Path, *needed: Path | str) -> None:
    """What a training needs does not lie in the folder that is to be deleted for it."""
    for path in map(Path, needed):
        if path.exists() and path.resolve().is_relative_to(folder.resolve()):
            raise RunError(f"--overwrite would delete {path}, which this training needs: copy it elsewhere first")


def has_begun(folder: Path) -> bool:
    """Whether `folder` holds a training whose first epoch is done: it needs its starting weights no more."""
    run = Run(folder)
    run.load_state()
    return run.state.finished or run.state.phase > 0 or run.state.epoch > 0


def _check_same(run: Run, settings: Mapping[str, Any]) -> None:
    before = read_settings(run)
    for key in ("task", "manifest_sha256"):
        if before[key] != settings[key]:
            raise _another(run, f"another {key} ({before[key]!r}, now {settings[key]!r})")
    if teachers.hashes(before) != teachers.hashes(settings):
        raise _another(run, "other teachers")
    if Recipe.from_dict(before["recipe"]) != Recipe.from_dict(dict(settings["recipe"])):
        raise _another(run, "another version of this recipe, or another recipe")


def _check_weights(run: Run, weights: str) -> None:
    """The weights that the training began with are these, by their content where that was recorded."""
    before = read_settings(run)
    recorded = before.get("weights_sha256")  # runs of before it was recorded lack it
    if before["weights"] != weights and (recorded is None or weights in ("none", "imagenet")):
        raise _another(run, f"another weights ({before['weights']!r}, now {weights!r})")
    if recorded is None:
        return
    try:
        now = network.weights_hash(weights)
    except network.WeightsUnavailable:
        if has_begun(run.folder) and before["weights"] == weights:
            return
        raise
    if now != recorded:
        raise RunError(
            f"{run.folder} began with the weights {before['weights']} of SHA-256 {recorded[:12]}, and {weights} has "
            f"{str(now)[:12]}: the file was changed, or is another. Put it back, choose another --out, or pass "
            "--overwrite to begin again."
        )
    if before["weights"] != weights:  # the same file, moved
        write_json(run.settings, {**before, "weights": weights})


def _another(run: Run, what: str) -> RunError:
    return RunError(
        f"{run.folder} holds a training with {what}. Choose another --out, or pass --overwrite to begin again."
    )


def read_settings(run: Run) -> dict[str, Any]:
    """What `start_run` wrote.

    Raises:
        RunError: The folder is no run.
    """
    import json

    try:
        settings: dict[str, Any] = json.loads(run.settings.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{run.folder} holds no training; make one with: python -m training fit") from error
    return settings


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": f"{keras.backend.backend()} {importlib.metadata.version(_distribution())}",
        "machine": platform.machine(),
    }


def _distribution() -> str:
    backend = keras.backend.backend()
    for name in ("tensorflow", "tensorflow-cpu") if backend == "tensorflow" else (backend,):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name
    return "keras"


def fit(run: Run, train: Fold, val: Fold) -> keras.Model:
    """Train, or resume training, to the end of the recipe.

    Args:
        run: From `start_run`.
        train: Images to learn from.
        val: Images that choose the best epoch.

    Returns:
        The best model of the last phase, also saved as ``best.keras``.

    Raises:
        RunError: The loss became infinite or not a number.
        WeightsUnavailable: The starting weights cannot be had.
    """
    settings = read_settings(run)
    task, recipe = get_task(settings["task"]), Recipe.from_dict(settings["recipe"])
    keras.utils.set_random_seed(recipe.seed)
    if run.state.finished:
        return network.load_model(run.best_model)
    model = _initial_model(run, task, recipe, settings["weights"])
    paths = [Path(teacher["path"]) for teacher in settings.get("teachers", [])]
    teach = teachers.Teachers(paths, mirrored=recipe.mirrored_teachers) if paths else None
    from_scratch = settings["weights"] == "none"
    for index, phase in enumerate(recipe.phases):
        if index < run.state.phase:
            continue
        model = _run_phase(run, task, recipe, phase, model, train, val, teach, from_scratch=from_scratch)
        last = index + 1 == len(recipe.phases)
        run.state.phase, run.state.epoch, run.state.best, run.state.waited = index + 1, 0, None, 0
        run.state.last = None
        if last:
            model = _settled(run, task, recipe, phase, model, train, val)
            model = network.rebuilt(model, task, network.IMAGE_SIZE)
            if recipe.start_share:
                _mix_in_start(model, task, recipe, settings["weights"])
            write_aside(run.best_model, model.save)
            run.state.finished = True
        run.save_state()
    for leftover in run.checkpoints.glob("epoch-*.keras"):
        leftover.unlink()
    plots.save(plots.training_curves(run.read_history(), f"{task.title}: training"), run.folder / "training_curves.png")
    return model


def _initial_model(run: Run, task: Task, recipe: Recipe, weights: str) -> keras.Model:
    if run.state.phase > 0:
        return network.load_model(run.phase_best(recipe.phases[run.state.phase - 1].name))
    return network.build_classifier(
        task,
        size=recipe.phases[0].size,
        dense_units=recipe.dense_units,
        dropout=recipe.dropout,
        weights="none" if run.state.last else weights,  # a checkpoint takes their place
        precision=recipe.precision,
    )


def _mix_in_start(model: keras.Model, task: Task, recipe: Recipe, weights: str) -> None:
    """Move `model` back towards the weights that the training began with, by the recipe's share of them."""
    start = network.build_classifier(
        task, size=network.IMAGE_SIZE, dense_units=recipe.dense_units, dropout=recipe.dropout, weights=weights
    )
    share = recipe.start_share
    pairs = zip(start.get_weights(), model.get_weights(), strict=True)
    model.set_weights([share * first + (1 - share) * last for first, last in pairs])


def _run_phase(
    run: Run,
    task: Task,
    recipe: Recipe,
    phase: Phase,
    model: keras.Model,
    train: Fold,
    val: Fold,
    teach: teachers.Teachers | None,
    *,
    from_scratch: bool,
) -> keras.Model:
    count = len(task.labels)
    batches = Batches(
        train,
        size=phase.size,
        batch_size=recipe.batch_size,
        labels=count,
        rarest_domain=recipe.rarest_domain,
        augmentation=recipe.augmentation,
        mixup=recipe.mixup,
        weights=class_weights(train.classes, count) if recipe.balance else None,
        teach=teach,
        # Another seed in each phase, or the first epochs of two phases would be alike.
        seed=recipe.seed * 1000 + recipe.phases.index(phase),
        epoch=run.state.epoch,
    )
    checks = Batches(val, size=phase.size, batch_size=batches.batch_size, labels=count)
    resumed = run.state.last is not None
    if resumed:
        model = keras.models.load_model(run.checkpoints / str(run.state.last))
        if recipe.weight_decay > 0:  # a checkpoint does not hold that
            model.optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    else:
        model = network.rebuilt(model, task, phase.size, recipe.precision)
        network.set_trainable(model, "all" if from_scratch else phase.trainable)
        _compile(model, recipe, phase, steps=len(batches))
    frozen = "" if from_scratch or phase.trainable == "all" else f", training the {phase.trainable.replace('_', ' ')}"
    log.info("phase %s: %d px, %d images an epoch%s", phase.name, phase.size, batches.images, frozen)
    if run.state.epoch < phase.epochs and run.state.waited < phase.patience:
        on_gpu = accelerated.on_gpu()
        if recorded := on_gpu and recipe.weight_decay > 0 and phase.schedule == "cosine":
            accelerated.record(model, batches.batch_size)
        model.fit(
            # What processes beside this one would make, teachers cannot be part of.
            accelerated.prepared_beside(batches) if on_gpu and teach is None else batches,
            validation_data=checks,
            epochs=phase.epochs,
            # The batches are shuffled already, by the seed; Keras would shuffle them again, differently when resumed.
            shuffle=False,
            initial_epoch=run.state.epoch,
            verbose="auto" if sys.stderr.isatty() else 2,
            callbacks=[
                _Keeper(run, phase),
                *([accelerated.Epochs(batches, recipe.seed)] if on_gpu else []),
                *_tensorboard(run, phase),
            ],
        )
        if recorded:
            accelerated.forget(model)
    return network.load_model(run.phase_best(phase.name))


def _settled(
    run: Run, task: Task, recipe: Recipe, phase: Phase, model: keras.Model, train: Fold, val: Fold
) -> keras.Model:
    """`model`, or the same with its normalisation settled (see `statistics`) if that lowers the validation loss."""
    count = len(task.labels)
    options = {"size": phase.size, "batch_size": recipe.batch_size, "labels": count}
    checks = Batches(val, **options)
    # With an augmentation that changes nothing, batches are whole, shuffled, and of every domain.
    images = Batches(
        train, **options, rarest_domain=recipe.rarest_domain, augmentation=Augmentation(), seed=recipe.seed
    )
    settled = network.rebuilt(model, task, phase.size, recipe.precision)
    statistics.settle(settled, images)
    before, after = (statistics.log_loss(candidate, checks) for candidate in (model, settled))
    log.info("validation loss %.4f, with the normalisation settled on unchanged images %.4f", before, after)
    return settled if after < before else model


def _compile(model: keras.Model, recipe: Recipe, phase: Phase, steps: int) -> None:
    rate: Any = phase.learning_rate
    if phase.schedule == "cosine":
        total = steps * (phase.whole or phase.epochs)
        warm_up = max(1, total // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=phase.learning_rate / 10,
            decay_steps=max(1, total - warm_up),
            alpha=0.01,
            warmup_target=phase.learning_rate,
            warmup_steps=warm_up,
        )
    if recipe.weight_decay > 0:
        optimiser = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, clipnorm=1.0)
        optimiser.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    else:
        optimiser = keras.optimizers.Adam(rate)
    model.compile(
        optimizer=optimiser,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        # XLA makes this network slower on CPUs.
        jit_compile="auto" if keras.backend.backend() != "tensorflow" else False,
    )


def _tensorboard(run: Run, phase: Phase) -> list[keras.callbacks.Callback]:
    try:
        import tensorflow  # noqa: F401  # writes the log, whichever backend trains
    except ImportError:
        log.warning("no TensorBoard log: TensorFlow is not installed")
        return []
    return [keras.callbacks.TensorBoard(run.folder / "tensorboard" / phase.name, write_graph=False)]


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no type annotations
    """Keeps checkpoints, history and state, and stops in time."""

    def __init__(self, run: Run, phase: Phase) -> None:
        super().__init__()
        self._run = run
        self._phase = phase
        self._began = time.monotonic()
        self._saved = -math.inf
        self._cost = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Take the time, and have dropout draw by the epoch: a checkpoint does not hold where its generator stood."""
        self._began = time.monotonic()
        for place, layer in enumerate(self.model.layers):
            if (generator := getattr(layer, "seed_generator", None)) is not None:
                generator.state.assign(np.array([place, epoch << 20], dtype="uint32"))

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Stop at once when the loss is no number."""
        if logs is not None and not math.isfinite(logs["loss"]):
            raise RunError(
                f"the loss became {logs['loss']} in phase {self._phase.name}, step {batch}: nothing is learnt any "
                "more. Lower the learning rate in the recipe, and begin again with --overwrite."
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the epoch, and save it where that is due; the state goes last, because it points to the rest."""
        logs = dict(logs or {})
        run, state = self._run, self._run.state
        loss = float(logs["val_loss"])
        better = state.best is None or loss < state.best
        state.best, state.waited = (loss, 0) if better else (state.best, state.waited + 1)
        state.epoch = epoch + 1
        seconds = round(time.monotonic() - self._began, 1)
        rounded = {name: round(float(logs[name]), 5) for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
        rate = float(np.asarray(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))
        run.append_history(
            {"phase": self._phase.name, "epoch": state.epoch, **rounded, "learning_rate": rate, "seconds": seconds}
        )
        ends = state.epoch == self._phase.epochs or state.waited >= self._phase.patience
        best = better and self._phase.keep == "best"
        if best or ends or time.monotonic() - self._saved >= self._cost / SAVING:
            self._save(hand_on=best or (ends and self._phase.keep == "last"))
        if state.waited >= self._phase.patience:
            log.info("no better validation loss in %d epochs: phase %s ends", state.waited, self._phase.name)
            self.model.stop_training = True

    def _save(self, *, hand_on: bool) -> None:
        """The network, if it is the one to hand on; with its optimiser, to be resumed from; then the state."""
        began = time.monotonic()
        run, state = self._run, self._run.state
        if hand_on:
            write_aside(run.phase_best(self._phase.name), self.model.save)
        before, state.last = state.last, f"epoch-{self._phase.name}-{state.epoch:03d}.keras"
        write_aside(run.checkpoints / state.last, self.model.save)
        run.save_state()
        if before not in (None, state.last):
            (run.checkpoints / str(before)).unlink(missing_ok=True)
        self._saved = time.monotonic()
        self._cost = self._saved - began
