"""What another scanner, film or export does to a picture, each in three severities.

Every function takes a grey picture uint8 [224, 224], as training holds it, and a level, and gives another one of the
same shape. Nothing is random: noise and the like are drawn from a number made of the picture's own pixels, so that a
picture is always changed alike, whatever else is measured with it.

| corruption     | what is done to the grey levels x, 0 to 255              | mild, strong, severe        |
|----------------|----------------------------------------------------------|-----------------------------|
| low_contrast   | (x - mean) * level + mean                                | 0.7, 0.45, 0.25             |
| high_contrast  | the same                                                 | 1.4, 2, 3                   |
| light_gamma    | 255 * (x / 255) ** level                                 | 0.7, 0.5, 0.35              |
| dark_gamma     | the same                                                 | 1.3, 1.7, 2.2               |
| brighter       | x + level                                                | 20, 40, 70                  |
| darker         | the same                                                 | -20, -40, -60               |
| blur           | Gaussian, standard deviation in pixels                   | 1, 2, 3.5                   |
| noise          | x + Gaussian noise of that standard deviation            | 8, 18, 36                   |
| jpeg           | stored at that quality                                   | 40, 18, 8                   |
| scale          | resized to that side, and back to 224                    | 112, 80, 56                 |
| crop           | the middle, that share of each side, enlarged            | 0.92, 0.84, 0.74            |
| rotation       | by so many degrees, to one side or the other             | 5, 12, 20                   |
| border_removed | rows and columns at the rim no brighter than that, cut   | 10, 30, 60                  |
| border_added   | shrunk into a black frame of that share of each side     | 0.04, 0.09, 0.15            |
| marker_removed | bright letters that stand out by so much, painted over   | 90, 60, 40                  |
| marker_added   | a white L or R of so many pixels in an upper corner      | 14, 22, 32                  |

The severities were chosen by eye on films and slices of both sets: mild is what one sees between hospitals, in a severe
one the finding can just be seen. The idea of the suite: Hendrycks and Dietterich, Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations, ICLR 2019.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

Grey = npt.NDArray[np.uint8]

SEVERITIES = ("mild", "strong", "severe")
LARGEST_MARKER = 32
"""Longest side of a burnt-in marker in pixels of 224x224; what is larger is anatomy."""


@dataclass(frozen=True)
class Corruption:
    """A kind of change.

    Attributes:
        change: Takes a picture and a level.
        levels: One for each of `SEVERITIES`.
    """

    change: Callable[[Grey, float], Grey]
    levels: tuple[float, float, float]


def contrast(grey: Grey, factor: float) -> Grey:
    """Grey levels pulled towards their mean (below 1) or away from it."""
    levels = grey.astype(np.float32)
    return _clipped((levels - levels.mean()) * factor + levels.mean())


def gamma(grey: Grey, exponent: float) -> Grey:
    """Another tone curve: below 1 lighter, above 1 darker; black and white stay."""
    return _clipped(255 * (np.arange(256) / 255) ** exponent)[grey]


def brightness(grey: Grey, shift: float) -> Grey:
    """All grey levels moved, and cut off at black and white."""
    return _clipped(grey.astype(np.float32) + shift)


def blur(grey: Grey, deviation: float) -> Grey:
    """A Gaussian blur, as of a patient who moved."""
    return np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(deviation)))


def noise(grey: Grey, deviation: float) -> Grey:
    """Gaussian noise, as of a low dose."""
    drawn = _generator(grey).standard_normal(grey.shape, dtype=np.float32)
    return _clipped(grey + drawn * np.float32(deviation))


def jpeg(grey: Grey, quality: float) -> Grey:
    """Stored as JPEG and read again."""
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=round(quality))
    return np.asarray(Image.open(buffer))


def scale(grey: Grey, side: float) -> Grey:
    """Made small and large again, as of an old archive."""
    image = Image.fromarray(grey)
    small = image.resize((round(side), round(side)), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(image.size, Image.Resampling.BILINEAR))


def crop(grey: Grey, share: float) -> Grey:
    """The middle of the picture, enlarged to its size."""
    image = Image.fromarray(grey)
    rim_x, rim_y = ((1 - share) / 2 * side for side in image.size)
    box = (rim_x, rim_y, image.width - rim_x, image.height - rim_y)
    return np.asarray(image.resize(image.size, Image.Resampling.BILINEAR, box=box))


def rotation(grey: Grey, degrees: float) -> Grey:
    """Turned about the middle, half of the pictures to either side; the corners become black."""
    angle = degrees if _number(grey) % 2 else -degrees
    return np.asarray(Image.fromarray(grey).rotate(angle, Image.Resampling.BILINEAR))


def border_removed(grey: Grey, brightest: float) -> Grey:
    """Cut to what is brighter than a level, enlarged to its size.

    A row or column at the rim goes when 95 % of it is no brighter than `brightest`. A picture that has less than half
    of a side left stays as it is: it is dark, it has no border.
    """
    rows, columns = (np.percentile(grey, 95, axis=axis) > brightest for axis in (1, 0))
    if rows.mean() < 0.5 or columns.mean() < 0.5:
        return grey
    (top, bottom), (left, right) = (np.flatnonzero(kept)[[0, -1]] for kept in (rows, columns))
    image = Image.fromarray(grey)
    box = (float(left), float(top), float(right + 1), float(bottom + 1))
    return np.asarray(image.resize(image.size, Image.Resampling.BILINEAR, box=box))


def border_added(grey: Grey, share: float) -> Grey:
    """The whole picture, smaller, in a black frame, as of a digitised film."""
    image = Image.fromarray(grey)
    inner = tuple(round(side * (1 - 2 * share)) for side in image.size)
    framed = Image.new("L", image.size)
    left, top = ((outer - side) // 2 for outer, side in zip(image.size, inner, strict=True))
    framed.paste(image.resize((inner[0], inner[1]), Image.Resampling.BILINEAR), (left, top))
    return np.asarray(framed)


def marker_removed(grey: Grey, step: float) -> Grey:
    """Letters and clips painted over with their surroundings.

    A marker is a group of touching pixels that is brighter by `step` than the picture is after a grey opening with a
    square of 17 pixels (its top-hat), nearly white at its brightest, no longer than `LARGEST_MARKER`, and not in the
    middle half of the picture.
    """
    surroundings = ndimage.grey_opening(grey, size=17)
    spots, _ = ndimage.label(grey.astype(np.int16) - surroundings > step)
    white = min(230.0, float(np.percentile(grey, 99.5)))
    marked = np.zeros(grey.shape, bool)
    for number, place in enumerate(ndimage.find_objects(spots), 1):
        spot = spots[place] == number
        if _like_a_marker(place, grey.shape) and grey[place][spot].max() >= white:
            marked[place] |= spot
    # A letter's soft rim is less bright than its strokes.
    marked = ndimage.binary_dilation(marked, iterations=2)
    return np.where(marked, surroundings, grey).astype(np.uint8)


def _like_a_marker(place: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    short = all(part.stop - part.start <= LARGEST_MARKER for part in place)
    middles = ((part.start + part.stop) / 2 / side for part, side in zip(place, shape, strict=True))
    return short and not all(0.25 < middle < 0.75 for middle in middles)


def marker_added(grey: Grey, height: float) -> Grey:
    """A burnt-in letter: L or R in the upper left or right corner, the same for the same picture."""
    image = Image.fromarray(grey)
    number = _number(grey)
    letter, right = "LR"[number % 2], bool(number // 2 % 2)
    # Pillow's own font: the same letter on every machine.
    font = ImageFont.load_default(size=height * 1.35)
    rim = image.width // 20
    at = (image.width - rim, rim) if right else (rim, rim)
    ImageDraw.Draw(image).text(at, letter, 255, font, anchor="rt" if right else "lt")
    return np.asarray(image)


CORRUPTIONS: dict[str, Corruption] = {
    "low_contrast": Corruption(contrast, (0.7, 0.45, 0.25)),
    "high_contrast": Corruption(contrast, (1.4, 2, 3)),
    "light_gamma": Corruption(gamma, (0.7, 0.5, 0.35)),
    "dark_gamma": Corruption(gamma, (1.3, 1.7, 2.2)),
    "brighter": Corruption(brightness, (20, 40, 70)),
    "darker": Corruption(brightness, (-20, -40, -60)),
    "blur": Corruption(blur, (1, 2, 3.5)),
    "noise": Corruption(noise, (8, 18, 36)),
    "jpeg": Corruption(jpeg, (40, 18, 8)),
    "scale": Corruption(scale, (112, 80, 56)),
    "crop": Corruption(crop, (0.92, 0.84, 0.74)),
    "rotation": Corruption(rotation, (5, 12, 20)),
    "border_removed": Corruption(border_removed, (10, 30, 60)),
    "border_added": Corruption(border_added, (0.04, 0.09, 0.15)),
    "marker_removed": Corruption(marker_removed, (90, 60, 40)),
    "marker_added": Corruption(marker_added, (14, 22, 32)),
}


def corrupt(grey: Grey, name: str, severity: int) -> Grey:
    """Pictures changed alike: uint8 [n, height, width], a new array.

    Args:
        grey: uint8 [n, height, width].
        name: A key of `CORRUPTIONS`.
        severity: Index in `SEVERITIES`.

    Raises:
        ValueError: There is no such corruption; the message names those that there are.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"no corruption {name!r}: choose among {', '.join(CORRUPTIONS)}")
    kind = CORRUPTIONS[name]
    changed = [kind.change(image, kind.levels[severity]) for image in grey]
    return np.stack(changed) if changed else grey.copy()


def _clipped(levels: npt.NDArray[Any]) -> Grey:
    clipped: Grey = np.rint(np.clip(levels, 0, 255)).astype(np.uint8)
    return clipped


def _number(grey: Grey) -> int:
    """A number that the picture's pixels determine."""
    digest = hashlib.blake2b(np.ascontiguousarray(grey).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _generator(grey: Grey) -> np.random.Generator:
    return np.random.default_rng(_number(grey))
