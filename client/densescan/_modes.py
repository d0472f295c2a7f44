"""PIL images of every mode and orientation to 8-bit grey. No I/O but that of an image which is not decoded yet."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
from PIL import Image

from ._levels import NotAPicture, float_to_8_bits, scale_to_8_bits

_STRIP: Final = 256  # pixel lines

_ORIENTATION: Final = 0x0112
_TURNS: Final[dict[Any, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Tags of a TIFF, and the values of them that Pillow does not heed in one of more than 8 bits.
_BITS: Final = 258
_COMPRESSION, _UNCOMPRESSED = 259, 1
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_PLANES, _ONE_A_COLOUR = 284, 2

# `Image.open` leaves decoding for later, and two threads must not decode one image. An image always meets the same of
# these locks, two images seldom, so that they are decoded side by side.
_LOADING: Final = tuple(threading.Lock() for _ in range(61))


def upright(image: Image.Image) -> Image.Image:
    """A decoded copy, turned as the EXIF says: it shares nothing with `image`, which its owner may move on.

    Raises:
        NotAPicture: It is damaged, or a TIFF that Pillow decodes to other levels than it holds.
    """
    with _LOADING[id(image) % len(_LOADING)]:
        try:
            image.load()
        except Exception as error:  # decoders of damaged files raise whatever their parser stumbles over
            raise NotAPicture(f"damaged or truncated: {error}") from error
        turn = _turn(image)
    _check_tiff(image)
    return image.copy() if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """By one tag alone: `ImageOps.exif_transpose` writes all of them anew, and fails where one is of an odd type."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # a parser of damaged metadata raises whatever it stumbles over; the picture is sound
        return None


def _check_tiff(image: Image.Image) -> None:
    """Above 8 bits Pillow does not invert one whose white is zero, and takes halves of a colour's levels for levels."""
    tags = getattr(image, "tag_v2", {})
    in_planes = (tags.get(_PLANES), tags.get(_COMPRESSION)) == (_ONE_A_COLOUR, _UNCOMPRESSED)
    if in_planes and len(image.getbands()) > 1 and max(tags.get(_BITS) or (1,)) > 8:
        raise NotAPicture(
            "an uncompressed TIFF of more than 8 bits with a plane for each colour is not read; save it in grey"
        )
    if image.mode.startswith(("I", "F")) and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise NotAPicture(
            "a TIFF of more than 8 bits whose white is zero (WhiteIsZero), and nothing tells where its black is; "
            "save it with black as zero (BlackIsZero)"
        )


def to_grey(image: Image.Image) -> Image.Image:
    """A decoded image in mode ``L``: ITU-R 601 luma of colours; what is transparent becomes black."""
    transparent = "transparency" in image.info
    if image.mode == "L" and not transparent:
        return image
    if image.mode.startswith("I"):  # 16-bit PNG and TIFF open as I;16, I;16B or I
        levels = np.asarray(image)
        if transparent:
            levels = np.where(levels == image.info["transparency"], 0, levels)
        return Image.fromarray(scale_to_8_bits(levels))
    if image.mode == "F":
        return Image.fromarray(float_to_8_bits(np.asarray(image)))
    if transparent or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return _on_black(image)
    if image.mode not in ("1", "RGB"):  # CMYK, YCbCr, LAB, HSV, P: through RGB
        image = image.convert("RGB")
    return image.convert("L")


def _on_black(image: Image.Image) -> Image.Image:
    """In strips, because three whole copies in colour of the largest picture do not fit into a gigabyte."""
    grey = Image.new("L", image.size)
    for top in range(0, image.height, _STRIP):
        bottom = min(top + _STRIP, image.height)
        strip = image.crop((0, top, image.width, bottom))
        rgba = (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        grey.paste(Image.alpha_composite(black, rgba).convert("L"), (0, top))
    return grey
