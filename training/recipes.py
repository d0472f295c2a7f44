"""The named trainings. A recipe is data: nothing else decides how a network is trained.

| recipe    | starts from      | what it is                                                                          |
|-----------|------------------|-------------------------------------------------------------------------------------|
| original  | ImageNet weights | the published report's training: the head, then the top half of the backbone        |
| scratch   | random weights   | progressive resizing, stronger augmentation; needs nothing to download              |
| release   | random weights   | what the released networks went through first: longer, images mixed; wants a GPU    |
| longer    | random weights   | release, twice as long                                                              |
| distilled | --weights        | a trained network learns the mean answer of one or more (`--teacher`)               |
| finished  | --weights        | a trained network sees pictures as they are: none mixed, turned and moved a little  |
| short     | random weights   | a sixth of `release`, to compare recipes by                                         |
| smoke     | random weights   | a few tiny steps, to see that everything runs; its network is worth nothing         |
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from densescan.tasks import IMAGE_SIZE, MRI, Task

Trainable = Literal["head", "top_half", "all"]
Precision = Literal["float32", "mixed_bfloat16"]
Schedule = Literal["constant", "cosine"]
Keep = Literal["best", "last"]

NAMED = "named"
"""Starting weights of recipes that go on from a trained network, which has to be named."""


def _check_word(value: str, known: Any) -> None:
    if value not in get_args(known):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(known))}")


def _check_positive(part: object, *names: str) -> None:
    for name in names:
        if not 0 < (value := getattr(part, name)) < math.inf:
            raise ValueError(f"{name} is {value}: expected a number above 0")


@dataclass(frozen=True)
class Augmentation:
    """How far a training image is changed, drawn anew for each image and epoch.

    Attributes:
        rotation: Largest angle to either side, in degrees.
        shift: Largest shift along each axis, as a share of the side.
        zoom: Largest change of scale to either side, as a share.
        stretch: Largest change of the aspect ratio to either side, as a share.
        flip: Mirror left and right in half of the images.
        contrast: Largest change of contrast to either side, as a share.
        brightness: Largest shift of brightness to either side, as a share of the full range.
        gamma: Largest exponent of the tone curve; the smallest is its inverse.
        noise: Largest standard deviation of added Gaussian noise, in grey levels of 255.
        blur: Largest radius of a Gaussian blur, in pixels at 224x224.
        erase: Largest side of a rectangle that is overwritten in half of the images, as a share.
        equalise: Share of images whose histogram is pulled, by a random part, towards a flat one: another scanner's
            tone curve.
        flatten: Share of images from which a random part of the slow changes of brightness over the field is taken:
            another beam, another coil.
    """

    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    stretch: float = 0.0
    flip: bool = False
    contrast: float = 0.0
    brightness: float = 0.0
    gamma: float = 1.0
    noise: float = 0.0
    blur: float = 0.0
    erase: float = 0.0
    equalise: float = 0.0
    flatten: float = 0.0


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one learning rate, size, and set of trainable layers.

    Attributes:
        name: Names its checkpoints.
        epochs: At most so many; early stopping may end it sooner.
        learning_rate: At its start (cosine: after the warm-up).
        trainable: The head; the head and the backbone's layers from the middle up; or all. With
            random weights nothing is frozen, whatever stands here.
        size: Side of the images, in pixels.
        schedule: `constant`, or `cosine`: a linear warm-up over a tenth of the steps, then half
            a cosine down to a hundredth of the rate.
        whole: Epochs that the schedule is laid out for, where the phase ends before; 0 is its own.
        patience: Epochs without a better validation loss after which it stops.
        keep: Whose weights go on: those of the epoch with the `best` validation loss, or of the `last`. Where training
            images are mixed and changed, the loss on unchanged ones says little before the normalisation is settled.
    """

    name: str
    epochs: int
    learning_rate: float
    trainable: Trainable = "all"
    size: int = IMAGE_SIZE
    schedule: Schedule = "constant"
    whole: int = 0
    patience: int = 5
    keep: Keep = "best"

    def __post_init__(self) -> None:
        """Refuse what would be noticed hours later, or never.

        Raises:
            ValueError: A word is none of those there are, a number is none to train by, or the schedule ends before
                the phase.
        """
        _check_positive(self, "epochs", "learning_rate", "size", "patience")
        for value, known in ((self.trainable, Trainable), (self.schedule, Schedule), (self.keep, Keep)):
            _check_word(value, known)
        if self.whole and self.whole < self.epochs:
            raise ValueError(f"phase {self.name}: a schedule of {self.whole} epochs ends before its {self.epochs} do")


@dataclass(frozen=True)
class Recipe:
    """All that decides a training, besides the data and the starting weights.

    Attributes:
        name: As `--recipe` takes it.
        weights: Starting weights unless `--weights` says otherwise: `imagenet`, `none`, or `NAMED`, with which a file
            must be given.
        phases: Run one after the other, each from the weights that the one before keeps.
        augmentation: Of the training images.
        dense_units: Width of the head's hidden layer.
        dropout: Share of units dropped before and after it.
        batch_size: Images in a step.
        label_smoothing: Share of each target spread over all classes.
        balance: Weigh classes so that each counts alike in the loss; of `rarest_domain`'s repeated pictures it knows
            nothing, and where those have another mixture of classes the balance is a little off.
        rarest_domain: Show images of a domain (say, another hospital's) that are fewer than this
            share more than once an epoch, until they make up as much; at most six times.
        weight_decay: Of AdamW; 0 is plain Adam.
        mixup: Parameter of the symmetric beta distribution that says how two images of a batch, and their targets, are
            mixed; 0 mixes none. Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
        start_share: Share of the starting weights in those that are kept at the end; the rest are the last phase's.
            Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022.
        taught: Wants teachers.
        mirrored_teachers: Teachers answer about a picture and its mirror image; else about the picture alone.
        precision: What the layers compute in. mixed_bfloat16 is faster where the processor has it.
        max_images: Use only so many of each fold; 0 is all.
        seed: Of the initial weights, the order and the augmentation.
    """

    name: str
    weights: str
    phases: tuple[Phase, ...]
    augmentation: Augmentation = field(default_factory=Augmentation)
    dense_units: int = 512
    dropout: float = 0.5
    batch_size: int = 32
    label_smoothing: float = 0.0
    balance: bool = True
    rarest_domain: float = 0.0
    weight_decay: float = 0.0
    mixup: float = 0.0
    start_share: float = 0.0
    taught: bool = False
    mirrored_teachers: bool = True
    precision: Precision = "float32"
    max_images: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """As of a phase.

        Raises:
            ValueError: A word is none of those there are, a share is none, a number is none to train by, or two phases
                would share their files.
        """
        _check_positive(self, "dense_units", "batch_size")
        _check_word(self.precision, Precision)
        for name in ("dropout", "label_smoothing", "rarest_domain", "start_share"):
            if not 0 <= (share := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {share}: expected a share, from 0 to below 1")
        for name in ("weight_decay", "mixup", "max_images"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(f"{name} is {value}: expected 0 or more")
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError(f"two phases have one name: {', '.join(names)}")

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recipe:
        """The recipe that `to_dict` wrote.

        Raises:
            ValueError: A key is unknown; nothing is ignored silently, but for the recipe that older ones went on from.
        """
        data = {name: value for name, value in data.items() if name != "after"}
        unknown = set(data) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"unknown keys in the recipe: {', '.join(sorted(unknown))}")
        parts = dict(data)
        parts["phases"] = tuple(Phase(**phase) for phase in data["phases"])
        parts["augmentation"] = Augmentation(**data["augmentation"])
        return cls(**parts)


_REPORT_AUGMENTATION = Augmentation(rotation=20, shift=0.10, zoom=0.20, flip=True)

# python -m training fit --task xray|mri --recipe original
# On a GPU: minutes. Reported: X-ray 84.46 % accuracy on the 624 test images, MRI 97.73 % on a
# random split. The report's hidden layer has 512 units.
ORIGINAL = Recipe(
    name="original",
    weights="imagenet",
    phases=(
        Phase("head", epochs=15, learning_rate=1e-3, trainable="head"),
        Phase("top_half", epochs=15, learning_rate=1e-4, trainable="top_half"),
    ),
    augmentation=_REPORT_AUGMENTATION,
)

_STRONG_AUGMENTATION = replace(
    _REPORT_AUGMENTATION,
    stretch=0.15,
    contrast=0.4,
    brightness=0.15,
    gamma=1.8,
    noise=10.0,
    blur=1.5,
    erase=0.3,
)


def _progressive(small: int, middle: int, full: int) -> tuple[Phase, ...]:
    """Epochs at 64, 128 and 224 pixels.

    Small images are cheap and teach the first layers as well; the last phase sees the size that is served.
    """
    return (
        Phase("64px", small, learning_rate=1e-3, size=64, schedule="cosine", patience=small),
        Phase("128px", middle, learning_rate=7e-4, size=128, schedule="cosine", patience=middle),
        Phase("224px", full, learning_rate=2e-4, size=224, schedule="cosine", patience=full),
    )


# KERAS_BACKEND=torch python -m training fit --task xray|mri --recipe scratch
# On two CPU cores with AMX: half an hour each. The TensorFlow backend takes twice as long.
SCRATCH = Recipe(
    name="scratch",
    weights="none",
    phases=_progressive(5, 6, 1),
    augmentation=_STRONG_AUGMENTATION,
    label_smoothing=0.05,
    rarest_domain=0.25,
    weight_decay=1e-4,
    precision="mixed_bfloat16",
)
# Four classes to tell, from slices that vary less than films do: more epochs, milder changes.
_SCRATCH_MRI = replace(
    SCRATCH,
    phases=(*_progressive(6, 9, 1), Phase("224px-fine", 1, learning_rate=1.5e-4, schedule="cosine", patience=1)),
    augmentation=replace(
        _STRONG_AUGMENTATION,
        rotation=15,
        shift=0.06,
        zoom=0.12,
        stretch=0.08,
        contrast=0.25,
        brightness=0.1,
        gamma=1.4,
        noise=6.0,
        blur=0.8,
        erase=0.2,
    ),
)


# KERAS_BACKEND=torch python -m training fit --task xray|mri --recipe release
# What the released networks were trained by at first, from random weights: on a GPU, seven minutes for both at once,
# up to the last phase, which two CPU cores did in half an hour each. On CPU cores alone it takes a night.
RELEASE = Recipe(
    name="release",
    weights="none",
    phases=(
        Phase("128px", 30, learning_rate=1.5e-3, size=128, schedule="cosine", patience=30, keep="last"),
        Phase("224px", 48, learning_rate=1e-3, schedule="cosine", whole=80, patience=48, keep="last"),
        Phase("224px-fine", 4, learning_rate=4.2e-4, schedule="cosine", patience=4, keep="last"),
    ),
    augmentation=replace(
        _STRONG_AUGMENTATION,
        contrast=0.5,
        gamma=2.0,
        noise=16.0,
        blur=1.8,
        equalise=0.35,
        flatten=0.3,
    ),
    batch_size=128,
    label_smoothing=0.05,
    rarest_domain=0.25,
    weight_decay=0.05,
    mixup=0.2,
    precision="mixed_bfloat16",
)
_RELEASE_MRI = replace(
    RELEASE,
    augmentation=replace(_SCRATCH_MRI.augmentation, equalise=0.2, flatten=0.2),
)


# KERAS_BACKEND=torch python -m training fit --task mri --recipe longer
# Eight minutes on an H200, with another training beside it.
def _longer(release: Recipe) -> Recipe:
    small, full, _ = release.phases
    return replace(release, name="longer", phases=(_lasting(small, 120), _lasting(full, 65)))


# KERAS_BACKEND=torch python -m training fit --task mri --recipe distilled --weights FILE --teacher FILE --teacher FILE
# Two CPU cores take some twelve minutes an epoch.
def _distilled(release: Recipe) -> Recipe:
    fine = Phase("224px", 5, learning_rate=1.5e-4, schedule="cosine", patience=5, keep="last")
    return replace(
        release,
        name="distilled",
        weights=NAMED,
        phases=(fine,),
        batch_size=32,
        label_smoothing=0.0,
        taught=True,
        mirrored_teachers=True,
    )


# The same for films, with --set precision=float32 on a CPU: two cores with AVX2 alone take some 25 minutes an epoch.
# The lower half of the network stays, films are turned and stretched less, and teachers see no mirror images: on
# validation the mean over a picture and its mirror image is better for slices, and not for films.
def _distilled_xray(release: Recipe) -> Recipe:
    recipe = _distilled(release)
    (fine,) = recipe.phases
    return replace(
        recipe,
        phases=(replace(fine, epochs=4, patience=4, trainable="top_half"),),
        augmentation=replace(release.augmentation, rotation=10, shift=0.05, zoom=0.1, stretch=0.07),
        mirrored_teachers=False,
    )


# KERAS_BACKEND=torch python -m training fit --task xray --recipe finished --weights FILE
# Two CPU cores with AVX-512 take four to six minutes an epoch.
def _finished(distilled: Recipe) -> Recipe:
    """The last epochs without what keeps a long training from learning by heart, and costs sharpness at its end.

    Mixed images and far geometry are not what is served: the normalisation and the last layers settle on what is. A
    part of the weights from before is kept: docs/TRAINING.md, What each release gave, says what for.
    """
    (fine,) = distilled.phases
    return replace(
        distilled,
        name="finished",
        phases=(replace(fine, epochs=6, patience=6, trainable="all"),),
        augmentation=replace(distilled.augmentation, rotation=6, shift=0.03, zoom=0.06, stretch=0.04),
        mixup=0.0,
        start_share=0.3,
        taught=False,
    )


def _short(release: Recipe) -> Recipe:
    """A sixth of the release's pixels: what recipes are compared by, with --set."""
    small, full, _ = release.phases
    return replace(release, name="short", phases=(_lasting(small, 16), _lasting(full, 4)))


def _lasting(phase: Phase, epochs: int) -> Phase:
    return replace(phase, epochs=epochs, whole=0, patience=epochs)


SMOKE = Recipe(
    name="smoke",
    weights="none",
    phases=(
        Phase("32px", epochs=1, learning_rate=1e-3, trainable="head", size=32),
        Phase("64px", epochs=1, learning_rate=1e-4, trainable="top_half", size=64),
    ),
    augmentation=_STRONG_AUGMENTATION,
    batch_size=8,
    max_images=16,
)

_ALL = (
    *(ORIGINAL, SCRATCH, RELEASE, _longer(RELEASE), _distilled_xray(RELEASE), _finished(_distilled_xray(RELEASE))),
    *(_short(RELEASE), SMOKE),
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
_OF_TASK: dict[tuple[str, str], Recipe] = {
    ("scratch", MRI.name): _SCRATCH_MRI,
    ("release", MRI.name): _RELEASE_MRI,
    **{(recipe.name, MRI.name): recipe for recipe in (make(_RELEASE_MRI) for make in (_longer, _distilled, _short))},
    ("finished", MRI.name): _finished(_distilled(_RELEASE_MRI)),
}


def get_recipe(name: str, task: Task) -> Recipe:
    """The recipe of that name for `task`.

    Raises:
        ValueError: There is none; the message names those that exist.
    """
    try:
        return _OF_TASK.get((name, task.name)) or RECIPES[name]
    except KeyError:
        raise ValueError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}") from None


def changed(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """`recipe` with some of its values changed.

    Args:
        recipe: What to start from.
        changes: Each ``name=value``, the value as JSON writes it and the name with dots into what it belongs to:
            ``mixup=0``, ``augmentation.noise=20``, ``phases.0.epochs=3``.

    Raises:
        ValueError: There is no such name, or the value is of another kind.
    """
    data = json.loads(json.dumps(recipe.to_dict()))
    for change in changes:
        name, equals, text = change.partition("=")
        *outer, last = name.split(".")
        try:
            inner = data
            for part in outer:
                inner = inner[int(part)] if isinstance(inner, list) else inner[part]
            before = inner[last]
            value = json.loads(text) if not isinstance(before, str) else text
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"--set {change}: write name=value, such as mixup=0 or augmentation.noise=20, with a name that "
                f"the recipe has ({', '.join(data)})"
            ) from error
        if not equals or not _alike(before, value):
            raise ValueError(f"--set {change}: {name} is {before!r}, and {text or 'nothing'} is of another kind")
        inner[last] = value
    try:
        return Recipe.from_dict(data)
    except ValueError as error:
        raise ValueError(f"--set {' --set '.join(changes)}: {error}") from error


def _alike(before: object, value: object) -> bool:
    """A whole number may take a broken one's place, and nothing else another's."""
    if isinstance(before, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(before) and not isinstance(value, list | dict)
