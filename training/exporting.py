"""From a training's best network to the next version of a served model, checked and all or nothing."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from densescan import drift
from densescan.phantoms import draw_phantom
from densescan.preprocessing import preprocess_grey
from densescan.tasks import Task

from . import calibration, conversion, fitting, metrics, network, operating_point, predictors, teachers
from .calibration import Calibration
from .data import Fold
from .runs import Run, RunError, write_json

if TYPE_CHECKING:
    import keras

SAVED_MODEL = "model.savedmodel"
FP32 = "fp32.onnx"
FP16 = "model.onnx"
INT8 = "model.xml"
CARD = "model.json"

STAGED = ".export-"
"""How the name of the folder begins in which a version is made, beside those that are there."""

CALIBRATION_IMAGES = 300
CHECKED_IMAGES = 64
"""Images on which every form is compared with Keras; the slow forms would take minutes on more."""

FP32_TOLERANCE = 1e-4
FP16_TOLERANCE = 5e-3
INT8_AGREEMENT = 0.98

INT8_MAPS = 0.99
"""Mean correlation of int8's maps with FP32's that is aimed at; a form that misses it by far is refused later."""
INT8_DRAWN_MAPS = 0.96
"""The same on drawn pictures, which stand for those unlike what the quantisation was calibrated on."""
INT8_ACCURACY = 0.002
"""Accuracy on the validation fold that int8 may cost; in a small fold one image."""
DRAWN_PICTURES = 12
QUANTISATIONS = ((1, True), (1, False), (4, True), (4, False), (8, True), (8, False), (13, False))
"""What is tried until maps and accuracy are right: how many convolutions next to the picture stay unquantised, each of
which costs time, and whether the others' ranges are the widest."""


log = logging.getLogger(__name__)


class ExportRefused(RunError):
    """A converted network does not answer as the trained one did; nothing was installed."""


@dataclass(frozen=True)
class Check:
    """A converted network against Keras, on the same real images.

    Attributes:
        form: What was compared.
        images: On how many images.
        largest_difference: Of any probability.
        agreement: Share of images with the same most probable class.
    """

    form: str
    images: int
    largest_difference: float
    agreement: float


def compare(form: str, expected: npt.NDArray[np.float32], got: npt.NDArray[np.float32]) -> Check:
    """Compare probabilities [n, classes] of the same images."""
    agreement = float(np.mean(expected.argmax(axis=1) == got.argmax(axis=1)))
    return Check(form, len(expected), float(np.abs(expected - got).max()), agreement)


def export(
    run: Run,
    task: Task,
    train: Fold,
    val: Fold,
    repository: Path,
    *,
    on_step: Callable[[str], None] = lambda step: None,
) -> tuple[Path, list[Check], dict[str, Any]]:
    """Convert a finished training and install it, with its gradient model, as the next version of both.

    Args:
        run: A finished training.
        task: What it classifies.
        train: Images that calibrate the quantisation.
        val: Images on which the forms are compared and the network is measured.
        repository: Triton's model repository; it must hold the model's configs.
        on_step: Told what is being done.

    Returns:
        The classifier's installed version folder (the gradient model's has the same number), the checks, and the
        figures of the int8 network on `val`.

    Raises:
        RunError: The training is not finished, the repository lacks a model's configs, or a gradient model's form
            differs from Keras.
        ExportRefused: A form of the classifier differs from Keras by more than its tolerance.
    """
    homes = (repository / task.classifier, repository / task.gradcam)
    for home in homes:
        if not (home / "config.pbtxt").is_file():
            raise RunError(f"{home} holds no config.pbtxt; pass a copy of the project's model_repository")
    if not run.best_model.is_file():
        raise RunError(f"{run.folder} is not finished; go on with: python -m training fit --task {task.name}")
    _remove_leftovers(homes[0])
    with tempfile.TemporaryDirectory(dir=homes[0], prefix=STAGED) as name, _held(Path(name)):
        staged, explaining = Path(name, "version"), Path(name, "gradcam")
        staged.mkdir()
        explaining.mkdir()
        trained, found = _calibrate(run, val, Path(name), on_step)
        checks, figures, how, answers = _convert_and_check(trained, task, train, val, staged, Path(name), on_step)
        _write_card(staged / CARD, run, task, found, checks, figures, how, answers)
        _add_gradient_model(trained, task, val, staged, explaining, Path(name), on_step)
        number = str(next_version(*homes))
        configs = _stage_configs(homes, how["threshold"], Path(name)) if how else {}
        install({explaining: homes[1] / number, staged: homes[0] / number, **configs})
    return homes[0] / number, checks, figures["int8"]


def _remove_leftovers(home: Path) -> None:
    """Delete what exports that were killed have left; one that runs holds its folder."""
    for folder in home.glob(f"{STAGED}*"):
        with contextlib.suppress(OSError), _held(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """A lock on a folder, which goes with the process; BlockingIOError where another has it."""
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(place)


def next_version(*homes: Path) -> int:
    """The number after the newest version of any of these models."""
    folders = [path for home in homes for path in home.iterdir() if path.is_dir()]
    return 1 + max((int(path.name) for path in folders if path.name.isdigit()), default=0)


def install(parts: dict[Path, Path]) -> None:
    """Rename each folder to its target, which is not there, and each file to its, which is; in that order.

    If one cannot be, none is: a file that was there is back.
    """
    undo: list[Callable[[], None]] = []
    try:
        for source, target in parts.items():
            if source.is_dir():
                source.chmod(0o755)
                back = partial(os.rename, target, source)
            else:
                shutil.copymode(target, source)
                back = partial(os.rename, shutil.copy2(target, source.with_name(f"{source.name}.before")), target)
            os.rename(source, target)
            undo.append(back)
    except BaseException:
        for back in reversed(undo):
            back()
        raise


def _stage_configs(homes: Sequence[Path], threshold: float, work: Path) -> dict[Path, Path]:
    """Write the configs with their new operating point into `work`; returns where each belongs."""
    staged = {}
    for home in homes:
        for path, text in operating_point.configs_with(home, threshold).items():
            aside = work / f"{home.name}-{path.name}"
            aside.write_text(text, encoding="utf-8")
            staged[aside] = path
    return staged


def _calibrate(run: Run, val: Fold, work: Path, on_step: Callable[[str], None]) -> tuple[Path, Calibration]:
    """The trained network with its probabilities calibrated on the validation fold's own films, and how."""
    on_step("calibrating on the validation fold")
    own = metrics.own_films(val.entries)
    model = network.load_model(run.best_model)
    probabilities = predictors.predict(predictors.keras_model(model), val.grey[own])
    found = calibration.find_calibration(val.classes[own], probabilities)
    calibration.apply_calibration(model, found)
    path = work / "calibrated.keras"
    model.save(path)
    return path, found


def _add_gradient_model(
    trained: Path, task: Task, val: Fold, classifier: Path, target: Path, work: Path, on_step: Callable[[str], None]
) -> None:
    """Make the gradient model of the converted classifier in `classifier`, check it, and write its card."""
    from . import exporting_gradcam

    checks = exporting_gradcam.convert_and_check(
        network.load_model(trained),
        saved_model=classifier / SAVED_MODEL,
        onnx_forms={"FP32": (work / FP32, work / "gradcam.onnx"), "FP16": (classifier / FP16, target / FP16)},
        int8=(classifier / INT8, target / INT8),
        grey=val.grey[spread(len(val), CHECKED_IMAGES)],
        on_step=on_step,
    )
    card = exporting_gradcam.card(task, read_card(classifier), checks)
    write_json(target / CARD, {**card, "sha256": hashes(target)})


def _convert_and_check(
    trained: Path, task: Task, train: Fold, val: Fold, staged: Path, work: Path, on_step: Callable[[str], None]
) -> tuple[list[Check], dict[str, Any], dict[str, Any] | None, dict[str, Any]]:
    """The checks, the figures of FP32 and int8, how the operating point was chosen, and int8's answers for `drift`."""
    model = network.load_model(trained)
    chosen = spread(len(val), CHECKED_IMAGES)
    on_step("asking Keras")
    expected = predictors.predict(predictors.keras_model(model), val.grey[chosen])
    checks: list[Check] = []

    def check(form: str, path: Path, tolerance: float) -> None:
        on_step(f"checking {form}")
        checks.append(compare(form, expected, predictors.predict(predictors.open_model(path), val.grey[chosen])))
        if not checks[-1].largest_difference <= tolerance:
            raise ExportRefused(f"{form} differs from Keras by {checks[-1].largest_difference:.2g}, over {tolerance:g}")

    on_step("writing the SavedModel")
    conversion.to_saved_model(model, staged / SAVED_MODEL)
    check("SavedModel", staged / SAVED_MODEL, FP32_TOLERANCE)
    on_step("converting to ONNX")
    fp32 = work / FP32
    proto = conversion.to_onnx(model, fp32)
    check("ONNX FP32", fp32, FP32_TOLERANCE)
    conversion.to_fp16(proto, staged / FP16)
    check("ONNX FP16", staged / FP16, FP16_TOLERANCE)
    on_step("quantising to int8")
    _quantise(model, task, fp32, staged / INT8, train, val, work, on_step)
    on_step("measuring FP32 and int8 on the validation fold")
    probabilities = {
        "fp32": predictors.predict(predictors.open_model(fp32), val.grey),
        "int8": predictors.predict(predictors.open_model(staged / INT8), val.grey),
    }
    checks.append(compare("OpenVINO int8", probabilities["fp32"], probabilities["int8"]))
    if checks[-1].agreement < INT8_AGREEMENT:
        raise ExportRefused(f"int8 decides as FP32 on only {checks[-1].agreement:.2%} of the validation fold")
    how = None
    if task.positive_index is not None:
        on_step("choosing the operating point")
        how = operating_point.choose(task, predictors.open_model(staged / INT8), val)
    figures = {
        form: metrics.evaluate(task, val.classes, values, val.entries, threshold=how and how["threshold"])
        for form, values in probabilities.items()
    }
    own = metrics.own_films(val.entries)
    return checks, figures, how, drift.reference(probabilities["int8"][own], task.labels)


def _quantise(
    model: keras.Model,
    task: Task,
    fp32: Path,
    int8: Path,
    train: Fold,
    val: Fold,
    work: Path,
    on_step: Callable[[str], None],
) -> None:
    """Write the first int8 form that has FP32's maps and accuracy, or the one that comes nearest."""
    from . import exporting_gradcam

    ranges = train.grey[spread(len(train), CALIBRATION_IMAGES)]
    drawn = np.stack([preprocess_grey(draw_phantom(task, seed=seed)) for seed in range(DRAWN_PICTURES)])
    real = val.grey[spread(len(val), 2 * CHECKED_IMAGES)]
    judge = exporting_gradcam.map_judge(model, fp32, (real, drawn), work)

    def accuracy(form: Path) -> float:
        answers = predictors.predict(predictors.open_model(form), val.grey)
        return float(np.mean(answers.argmax(axis=1) == val.classes))

    aim = accuracy(fp32) - max(INT8_ACCURACY, 1.001 / len(val))
    best = -np.inf
    for whole, widest in QUANTISATIONS:
        what = f"int8 but for the first {whole} convolutions{', widest ranges' if widest else ''}"
        on_step(f"quantising to {what}")
        tried = work / INT8
        conversion.to_int8(fp32, tried, ranges, whole, widest=widest)
        (of_real, of_drawn), right = judge(tried), accuracy(tried)
        log.info("%s: maps correlate %.4f, of drawn pictures %.4f; accuracy %.4f", what, of_real, of_drawn, right)
        worth = min(of_real - INT8_MAPS, of_drawn - INT8_DRAWN_MAPS, right - aim)
        if worth > best:
            best = worth
            for part in (tried, tried.with_suffix(".bin")):
                os.replace(part, int8.with_suffix(part.suffix))
        if worth >= 0:
            return
    log.warning("no int8 form has FP32's maps at its accuracy; kept is the one that comes nearest")


def spread(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """At most `wanted` indices, spread evenly over 0..count-1, so that every class is among them."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))


def _write_card(
    path: Path,
    run: Run,
    task: Task,
    found: Calibration,
    checks: Sequence[Check],
    figures: dict[str, Any],
    how: dict[str, Any] | None,
    answers: dict[str, Any],
) -> None:
    settings = fitting.read_settings(run)
    write_json(
        path,
        {
            "model": task.classifier,
            "labels": task.labels,
            "recipe": settings["recipe"],
            "starting_weights": settings["weights"] if settings["weights"] in ("none", "imagenet") else "file",
            "starting_weights_sha256": settings.get("weights_sha256"),
            "teachers_sha256": teachers.hashes(settings),
            "manifest_sha256": settings["manifest_sha256"],
            "epochs": len(run.read_history()),
            "trained": settings["started"],
            "exported": time.strftime("%Y-%m-%d"),
            "versions": settings["versions"],
            "calibration": asdict(found),
            "checks": [asdict(check) for check in checks],
            "validation": figures,
            "operating_point": how and {**how, "fold": "val", "manifest_sha256": settings["manifest_sha256"]},
            "drift": answers,
            "sha256": hashes(path.parent),
        },
    )


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` but the card itself, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_card(folder: Path) -> dict[str, Any]:
    """What stands beside a version's weights."""
    card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    return card


def copy_configs(task: Task, source: Path, target: Path) -> None:
    """Copy the configs and labels of a task's two models, without weights, to another repository."""
    for name in (task.classifier, task.gradcam):
        shutil.copytree(
            source / name,
            target / name,
            ignore=lambda folder, names: [name for name in names if name.isdigit() or name.startswith(".")],
            dirs_exist_ok=True,
        )
