"""Pictures to send: the caller's own, or drawn ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densescan.phantoms import draw_phantom
from densescan.tasks import IMAGE_SIZE, Task

JPEG_QUALITY = 90


def write_phantoms(task: Task, folder: Path, count: int = 8, size: int = IMAGE_SIZE) -> list[Path]:
    """Draw `count` different pictures into `folder`, as grey JPEG of `size` x `size`, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(count):
        path = folder / f"{task.name}-{size}-{seed}.jpg"
        draw_phantom(task, seed=seed, size=size).save(path, quality=JPEG_QUALITY)
        paths.append(path)
    return paths


def pictures(task: Task, own: Sequence[Path], folder: Path) -> list[Path]:
    """The caller's own pictures if there are any, else phantoms in `folder`."""
    return list(own) or write_phantoms(task, folder)
