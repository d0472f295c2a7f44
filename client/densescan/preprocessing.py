"""The one way from a file to the network's input: training, evaluation, server and SDK call it.

Decode, turn upright, 8-bit grey, resize to 224x224 with antialiasing and without keeping the
aspect ratio, replicate to three channels. Mean and deviation are applied inside the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from .images import MAX_FILE_BYTES, MAX_PIXELS, ImageSource, open_grey
from .tasks import CHANNELS, IMAGE_SHAPE, IMAGE_SIZE

DETAIL: Final = 2 * IMAGE_SIZE
"""Sides in pixels that a decoder may reduce a picture to: twice the network's, so that grey levels change by less than
one in the mean (reversible JPEG 2000: by up to two, brighter)."""


def preprocess_grey(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_FILE_BYTES
) -> npt.NDArray[np.uint8]:
    """One picture as the network sees it, before the grey channel is replicated.

    Returns:
        uint8 [224, 224].

    Raises:
        InvalidImage: See `densescan.images.open_grey`.
    """
    return fit(open_grey(source, at_least=DETAIL, max_pixels=max_pixels, max_bytes=max_bytes))


def fit(grey: Image.Image) -> npt.NDArray[np.uint8]:
    """A grey image (mode ``L``) of any size at the network's: uint8 [224, 224]."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    if grey.size != size:
        # Pillow widens the filter when it shrinks, which is what antialiases.
        grey = grey.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(grey)


def replicate(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Grey pictures [..., height, width] to [..., height, width, 3]."""
    pixels = np.empty((*grey.shape, CHANNELS), np.uint8)
    for channel in range(CHANNELS):  # a third of the time that np.repeat takes
        pixels[..., channel] = grey
    return pixels


def made_before(source: object) -> npt.NDArray[np.uint8] | None:
    """`source` itself if it is an array that `preprocess` could have made, so that doing it again changes nothing.

    None if anything would change or be refused, or would take longer to find out than to do.
    """
    if type(source) is not np.ndarray or source.dtype != np.uint8 or source.shape != IMAGE_SHAPE:
        return None
    if not source.flags.c_contiguous or not source.min() < source.max() > 1:
        return None
    levels = source.reshape(-1)
    as_next = np.empty(levels.shape, np.bool_)  # half the time that comparing channel with channel takes
    np.equal(levels[:-1], levels[1:], out=as_next[:-1])
    as_next[CHANNELS - 1 :: CHANNELS] = True  # the next is another pixel's
    return source if as_next.all() else None


def preprocess(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_FILE_BYTES
) -> npt.NDArray[np.uint8]:
    """One picture as the served models take it.

    Args:
        source: As in `densescan.images.open_picture`.
        max_pixels: Refuse larger pictures before decoding them.
        max_bytes: Refuse longer files before decoding them.

    Returns:
        uint8 [224, 224, 3], contiguous.

    Raises:
        InvalidImage: The source is no picture, is damaged, or is outside the limits.
    """
    return replicate(preprocess_grey(source, max_pixels=max_pixels, max_bytes=max_bytes))


def preprocess_batch(sources: Sequence[ImageSource]) -> npt.NDArray[np.uint8]:
    """Several pictures, stacked: uint8 [n, 224, 224, 3]."""
    return np.stack([preprocess(source) for source in sources])
