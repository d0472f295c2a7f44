"""Random changes of a grey training image: one affine warp, blur, tone curves, noise, erasing."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from densescan.tasks import IMAGE_SIZE

from .recipes import Augmentation

Grey = npt.NDArray[np.uint8]

_SLOW = 0.2
"""Radius of the blur that leaves the slow changes of brightness alone, as a share of the side: wider than a rib."""


def augment(grey: Grey, rng: np.random.Generator, how: Augmentation) -> Grey:
    """A random variant of one image: uint8 [side, side], the same shape as `grey`."""
    image = _warp(Image.fromarray(grey), rng, how)
    if how.blur > 0:
        radius = rng.uniform(0, how.blur) * image.width / IMAGE_SIZE
        if radius > 0.3:
            image = image.filter(ImageFilter.GaussianBlur(radius))
    pixels = tone_curve(rng, how)[np.asarray(image)]
    if how.equalise > 0 and rng.random() < how.equalise:
        pixels = equalised(pixels, rng.uniform(0, 1))
    if how.flatten > 0 and rng.random() < how.flatten:
        pixels = flattened(pixels, rng.uniform(0, 1))
    if how.noise > 0:
        noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(0, how.noise))
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    if how.erase > 0 and rng.random() < 0.5:
        pixels = _erase(pixels, rng, how.erase)
    return pixels


def _warp(image: Image.Image, rng: np.random.Generator, how: Augmentation) -> Image.Image:
    """Rotate, scale, stretch, mirror and shift about the centre, in one interpolation."""
    angle = math.radians(rng.uniform(-how.rotation, how.rotation))
    zoom = rng.uniform(1 - how.zoom, 1 + how.zoom)
    stretch = math.sqrt(rng.uniform(1 - how.stretch, 1 + how.stretch))
    mirror = -1.0 if how.flip and rng.random() < 0.5 else 1.0
    scale_x, scale_y = mirror / (zoom * stretch), stretch / zoom
    cos, sin = math.cos(angle), math.sin(angle)
    # Output pixel to input pixel, as Pillow wants it: x = a*u + b*v + c, y = d*u + e*v + f.
    a, b, d, e = cos * scale_x, sin * scale_x, -sin * scale_y, cos * scale_y
    centre = image.width / 2
    shift_x, shift_y = rng.uniform(-how.shift, how.shift, 2) * image.width
    c = centre - a * (centre + shift_x) - b * (centre + shift_y)
    f = centre - d * (centre + shift_x) - e * (centre + shift_y)
    if (a, b, c, d, e, f) == (1, 0, 0, 0, 1, 0):
        return image
    return image.transform(image.size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)


def tone_curve(rng: np.random.Generator, how: Augmentation) -> Grey:
    """Gamma, then contrast about the middle, then brightness, as a table: uint8 [256]."""
    levels = np.linspace(0, 1, 256, dtype=np.float32)
    if how.gamma > 1:
        levels = levels ** np.float32(how.gamma ** rng.uniform(-1, 1))
    contrast = 1 + rng.uniform(-how.contrast, how.contrast)
    brightness = rng.uniform(-how.brightness, how.brightness)
    levels = (levels - 0.5) * contrast + 0.5 + brightness
    return np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)


def equalised(pixels: Grey, share: float) -> Grey:
    """`pixels` with the histogram pulled towards a flat one: 0 leaves it, 1 equalises it."""
    below = np.cumsum(np.bincount(pixels.ravel(), minlength=256)).astype(np.float64)
    flat = 255 * (below - below[pixels.min()]) / max(1.0, below[-1] - below[pixels.min()])
    levels = (1 - share) * np.arange(256) + share * np.maximum(flat, 0)
    table: Grey = np.rint(levels).astype(np.uint8)
    return table[pixels]


def flattened(pixels: Grey, share: float) -> Grey:
    """`pixels` without a share of the slow changes of brightness over the field; the mean brightness stays."""
    slow = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(_SLOW * pixels.shape[1]))
    change = np.asarray(slow, np.float32)
    level: Grey = np.rint(np.clip(pixels - share * (change - change.mean()), 0, 255)).astype(np.uint8)
    return level


def _erase(pixels: Grey, rng: np.random.Generator, largest: float) -> Grey:
    """Overwrite a rectangle with one random grey level, so that no single spot decides."""
    side = pixels.shape[0]
    height, width = (int(side * share) for share in rng.uniform(0.05, largest, 2))
    top, left = int(rng.integers(0, side - height + 1)), int(rng.integers(0, side - width + 1))
    erased = pixels.copy()
    erased[top : top + height, left : left + width] = rng.integers(0, 256)
    return erased
