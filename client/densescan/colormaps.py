"""Colour maps that are perceptually uniform, and told apart without red, without green and in grey print.

Inferno and viridis are by Stéfan van der Walt and Nathaniel Smith, cividis by Jamie Nuñez, Christopher Anderton and
Ryan Renslow. Matplotlib publishes them under CC0 1.0; here stands every fifth of its 256 colours, and what lies
between is interpolated, which is off by 2 of 255 at most.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

DEFAULT_COLORMAP: Final = "inferno"

_ANCHORS: Final = {
    "inferno": (
        "00000402020c0504170a072210092d160b391e0c45260c512f0a5b380962400a67490b6a510e6c"
        "59106e61136e69166e71196e781c6d801f6c88226a902568982766a02a63a82e5fb0315bb73557"
        "bf3952c63d4dcc4248d34743d94d3ddf5337e45a31e9612bed6925f1711ff47918f78212f98b0b"
        "fa9407fb9d07fca60cfcb014fbba1ffac42af8cd37f6d746f4e156f2ea69f2f27df5f992fcffa4"
    ),
    "viridis": (
        "44015446085c471063481769481d6f482475472a7a46307e453781433d844142873f48893d4e8a"
        "3a538b38598c355e8d33638d31688e2e6d8e2c718e2a768e297b8e27808e25848e23898e218e8d"
        "20928c1f978b1e9c891fa18821a58524aa8328ae802eb37c35b7793dbc7446c06f50c46a5ac864"
        "65cb5e70cf577cd25089d54895d840a2da37b0dd2fbddf26cae11fd8e219e5e419f1e51dfde725"
    ),
    "cividis": (
        "00224e002656002a5f002d68003070083370163770203a6f273e6e2e416d34456c3a486c3f4c6c"
        "444f6c49536c4e566c535a6d575d6d5c616e60646f656870696b716d6f727272747676767a7a78"
        "7e7d788381798885788d8878928c789690779b9476a09875a59c74aaa073afa471b5a86fbaac6d"
        "bfb06bc4b468c9b965cfbd62d4c15fdac65bdfca57e5cf52ead34cf0d846f6dd3ffce236fee838"
    ),
}

COLORMAPS: Final = tuple(_ANCHORS)
"""Names of the colour maps."""


def colours(values: npt.NDArray[np.float32], name: str = DEFAULT_COLORMAP) -> npt.NDArray[np.uint8]:
    """Values in 0..1 [...] as colours, uint8 [..., 3]; what is outside counts as the nearest end.

    Raises:
        ValueError: There is no such colour map.
    """
    levels = np.rint(np.clip(values, 0.0, 1.0) * 255).astype(np.uint8)
    table: npt.NDArray[np.uint8] = _table(name)[levels]
    return table


@cache
def _table(name: str) -> npt.NDArray[np.uint8]:
    """All 256 colours of a map: uint8 [256, 3]."""
    if name not in _ANCHORS:
        raise ValueError(f"there is no colour map {name!r}: choose one of {', '.join(COLORMAPS)}")
    anchors = np.frombuffer(bytes.fromhex(_ANCHORS[name]), np.uint8).reshape(-1, 3)
    places = np.linspace(0, 255, len(anchors))
    channels = [np.interp(np.arange(256), places, channel) for channel in anchors.T]
    table: npt.NDArray[np.uint8] = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return table
